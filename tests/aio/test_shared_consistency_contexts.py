"""The tests of ``servers.consistency.test_contexts`` in the asyncio form."""

from __future__ import annotations

from support.forms.in_loop import shared

OWN = "it has threads, or a loop, of its own"
BESIDES = {
    "test_a_causal_session_does_not_see_what_others_write": OWN,
    "test_a_causal_session_follows_to_thread": OWN,
    "test_to_thread_without_a_causal_session_needs_level_process": OWN,
    "test_what_one_thread_is_asking_for_holds_for_the_others_too": OWN,
    "test_work_handed_on_to_a_pool_of_threads_at_level_process": OWN,
}

globals().update(shared("servers.consistency.test_contexts", BESIDES))
