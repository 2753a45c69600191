"""The tests of ``servers.consistency.test_round_trips`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

globals().update(shared("servers.consistency.test_round_trips", {}))
