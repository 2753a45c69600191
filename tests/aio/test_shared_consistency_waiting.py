"""The tests of ``servers.consistency.test_waiting`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

OWN = "it has threads, or a loop, of its own"
BESIDES = {
    "test_losers_of_one_key_see_the_winner": OWN,
    "test_only_so_many_wait_on_one_replica": OWN,
    "test_a_wait_ends_before_the_clients_own_timeout": "aiomysql has no timeout for reading",
}

globals().update(shared("servers.consistency.test_waiting", BESIDES))
