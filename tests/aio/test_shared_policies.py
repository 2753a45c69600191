"""The tests of ``servers.routing.test_policies`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

BESIDES = {
    "test_least_busy_uses_all_and_avoids_the_busy_one": "waits for a thread, and lets no task run",
    "test_connect_opens_the_node_that_the_next_read_then_uses": "the pool may have one",
}

globals().update(shared("servers.routing.test_policies", BESIDES))
