"""The tests of ``test_transactions`` in the asyncio form."""

from __future__ import annotations

from support.in_loop import shared

globals().update(shared("test_transactions", {}))
