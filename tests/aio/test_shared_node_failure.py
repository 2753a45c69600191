"""The tests of ``servers.nodes.test_node_failure`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

BESIDES = {
    "test_no_read_is_lost_when_a_replica_is_killed_under_threads": "it has threads of its own",
    "test_exactly_one_caller_tries_an_ejected_node": "it has threads of its own",
}

globals().update(shared("servers.nodes.test_node_failure", BESIDES))
