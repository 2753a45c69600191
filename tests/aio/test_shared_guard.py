"""The tests of ``servers.connections.test_guard`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

globals().update(shared("servers.connections.test_guard", {}))
