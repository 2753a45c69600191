"""The order of the routing rules, as a table over everything that `make_plan` looks at."""

from __future__ import annotations

from itertools import product

import pytest

from peewee_replicas.routing.plan import READER, REPLICA, WRITER, Plan, cause_of, make_plan

pytestmark = pytest.mark.pure

KINDS = ("read", "query", "locking", "write", "session", "transaction", "unknown")
TRANSACTIONS = ("", "a transaction is open")
STATES = ("", "a temporary table")
PLACES = ("", "primary", "on_primary")
READS = ("replica", "primary", "observe")


def ask(
    kind: str,
    readonly: bool = False,
    transaction: str = "",
    state: str = "",
    place: str = "",
    reads: str = "replica",
) -> Plan:
    return make_plan(
        kind,
        f"it is a {kind}",
        readonly=readonly,
        transaction=transaction,
        session_state=state,
        bound=place,
        reads=reads,
        falls_back=True,
    )


NOT_READS = {
    "write": "write",
    "locking": "locking",
    "session": "session",
    "transaction": "transaction",
    "query": "unproven",
    "unknown": "unproven",
}


def expected(
    kind: str, readonly: bool, transaction: str, state: str, place: str, reads: str
) -> tuple[str, str, bool, bool, str]:
    """The rules as the documentation has them: target, words of the reason, guard, observed, cause."""
    serves = kind == "read" or (kind == "query" and readonly)
    own = READER if readonly else WRITER
    if readonly and (not serves or (transaction and kind == "query")):
        return "refused", "", False, False, ""
    if transaction:
        return WRITER, "transaction", False, False, "transaction"
    if state:
        return WRITER, "temporary table", readonly and kind == "query", False, "session_state"
    if place == "on_primary":
        return own, "on_primary", False, False, "on_primary"
    if place == "primary":
        return WRITER, "primary()", False, False, "scope"
    if not serves:
        return WRITER, "not a proven read", False, False, NOT_READS[kind]
    if reads == "observe":
        return own, "observe", False, True, "setting"
    if reads == "primary" and not readonly:
        return WRITER, 'reads="primary"', False, False, "setting"
    return REPLICA, "read" if kind == "read" else "guard", False, False, "fallback"


# A primary() scope that is innermost is not inside a readonly() any more.
CASES = [
    case
    for case in product(KINDS, (False, True), TRANSACTIONS, STATES, PLACES, READS)
    if not (case[1] and case[4] == "primary")
]


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("readonly", [False, True])
def test_every_combination_follows_the_rules_in_their_order(readonly: bool, reads: str) -> None:
    cases = [case for case in CASES if case[1] is readonly and case[5] == reads]
    assert len(cases) == (56 if readonly else 84)
    for case in cases:
        plan = ask(*case)
        target, words, guard, observed, cause = expected(*case)
        if target == "refused":
            assert plan.refusal, case
            continue
        assert not plan.refusal, case
        assert (plan.place, plan.guard, plan.observed, plan.cause) == (target, guard, observed, cause), case
        assert words in plan.reason, case


def test_only_reads_ever_leave_for_a_replica() -> None:
    for case in CASES:
        plan = ask(*case)
        if plan.place == REPLICA and not plan.refusal:
            kind, readonly, transaction, state, place, reads = case
            assert kind == "read" or (kind == "query" and readonly)
            assert (transaction, state, place) == ("", "", "")
            assert reads == "replica" or (reads == "primary" and readonly)


def test_nothing_but_reads_and_queries_runs_inside_readonly() -> None:
    for case in CASES:
        kind, readonly = case[:2]
        if readonly and kind not in ("read", "query"):
            assert ask(*case).refusal


def test_a_refusal_says_what_it_refuses_and_why() -> None:
    refusal = ask("write", readonly=True).refusal
    assert "write" in refusal
    assert "readonly()" in refusal
    assert "it is a write" in refusal
    refusal = ask("query", readonly=True, transaction="a transaction is open").refusal
    assert "cannot guard an open transaction" in refusal
    assert "it is a query" in refusal


@pytest.mark.parametrize("kind", KINDS[1:])
def test_outside_scopes_the_reason_for_the_primary_is_the_statements_own(kind: str) -> None:
    assert ask(kind) == Plan((WRITER,), f"not a proven read: it is a {kind}", cause=cause_of(kind))
