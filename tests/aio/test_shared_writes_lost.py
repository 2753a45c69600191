"""The tests of ``servers.execution.test_writes_lost`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

BESIDES = {
    "test_a_read_that_could_not_be_sent_to_the_primary_is_sent_again": "it looks into a thread's connection",
}

globals().update(shared("servers.execution.test_writes_lost", BESIDES))
