"""The tests of ``servers.consistency.test_bookmarks`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

BESIDES = {
    "test_a_forged_bookmark_costs_its_reader_a_bounded_time_and_nobody_else": "it has threads of its own",
}

globals().update(shared("servers.consistency.test_bookmarks", BESIDES))
