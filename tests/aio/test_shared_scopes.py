"""The tests of ``servers.scopes.test_scopes`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

OWN = "it has threads, or a loop, of its own"
BESIDES = {
    "test_coroutines_tasks_and_to_thread": OWN,
    "test_threads_inherit_nothing_and_writes_of_others_are_not_refused": OWN,
    "test_a_scope_that_an_exception_left_is_gone_for_the_next_job_of_the_thread": OWN,
    "test_greenlets_are_each_in_their_own_scope_though_a_model_is_bound": OWN,
}

globals().update(shared("servers.scopes.test_scopes", BESIDES))
