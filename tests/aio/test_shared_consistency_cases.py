"""The tests of ``test_consistency_cases`` in the asyncio form."""

from __future__ import annotations

from support.in_loop import shared

BESIDES = {
    "test_other_kinds_of_cursors": "aiomysql has classes of cursors of its own",
}

globals().update(shared("test_consistency_cases", BESIDES))
