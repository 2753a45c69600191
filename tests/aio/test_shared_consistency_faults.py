"""The tests of ``test_consistency_faults`` in the asyncio form."""

from __future__ import annotations

from support.in_loop import shared

BESIDES = {
    "test_one_address_that_leads_to_two_servers": "the pool has a connection to the first still",
}

globals().update(shared("test_consistency_faults", BESIDES))
