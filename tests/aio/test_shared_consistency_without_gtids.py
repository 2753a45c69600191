"""The tests of ``servers.consistency.test_without_gtids`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

globals().update(shared("servers.consistency.test_without_gtids", {}))
