"""The tests of ``servers.consistency.test_write_cases`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

BESIDES = {
    "test_other_kinds_of_cursors": "aiomysql has classes of cursors of its own",
}

globals().update(shared("servers.consistency.test_write_cases", BESIDES))
