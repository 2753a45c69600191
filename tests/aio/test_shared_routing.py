"""The tests of ``servers.routing.test_routes`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

globals().update(shared("servers.routing.test_routes", {}))
