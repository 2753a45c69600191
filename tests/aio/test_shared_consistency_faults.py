"""The tests of ``servers.consistency.test_faults`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

BESIDES = {
    "test_one_address_that_leads_to_two_servers": "the pool has a connection to the first still",
}

globals().update(shared("servers.consistency.test_faults", BESIDES))
