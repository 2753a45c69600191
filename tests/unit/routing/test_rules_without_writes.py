"""`plan_without_writes` over everything that the rules look at, compared with `make_plan`."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from peewee_replicas.routing.plan import make_plan, plan_without_writes, refuse_raw_write
from peewee_replicas.statements.classifier import Classifier

KINDS = ("read", "query", "locking", "write", "session", "transaction", "unknown")
TRANSACTIONS = ("", "a transaction is open")
STATES = ("", "a temporary table")
PLACES = ("", "primary", "on_primary")
READS = ("replica", "primary", "observe", 0.5)
ENDS = ("COMMIT", "ROLLBACK", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a", "UNLOCK TABLES")
BEGINS = (
    "BEGIN",
    "START TRANSACTION",
    "SAVEPOINT a",
    "LOCK TABLES t READ",
    "SET TRANSACTION READ ONLY",
    "XA START 'a'",
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_allowed(kind: str) -> None:
    for readonly, transaction, state, place, reads in product(
        (False, True), TRANSACTIONS, STATES, PLACES, READS
    ):
        given: dict[str, Any] = {
            "readonly": readonly, "transaction": transaction, "session_state": state, "bound": place,
            "reads": reads, "falls_back": True,
        }  # fmt: skip
        usual = make_plan(kind, "it is so", **given)
        plan = plan_without_writes(kind, "it is so", **given)
        if kind == "read" or usual.refusal:
            assert plan == usual
        elif kind in ("query", "session"):
            assert bool(plan.refusal) == bool(transaction)
            assert plan.refusal or readonly or plan.guard
        else:
            assert 'writes="refuse"' in plan.refusal


def planned(statement: Any, transaction: str) -> Any:
    """The plan of a statement outside scopes."""
    return plan_without_writes(
        statement.kind, statement.reason, readonly=False, transaction=transaction, session_state="",
        bound="", reads="replica", falls_back=True,
    )  # fmt: skip


@pytest.mark.parametrize("sql", ["EXECUTE a", "EXECUTE a USING @b", "execute immediate 'FLUSH TABLES'"])
def test_what_runs_a_statement_that_no_text_shows_is_refused(sql: str) -> None:
    statement = Classifier(None).classify(sql)
    for transaction in TRANSACTIONS:
        assert "EXECUTE is not sent" in planned(statement, transaction).refusal
    assert refuse_raw_write(statement.kind, statement.reason)


@pytest.mark.parametrize("sql", ENDS + BEGINS)
def test_a_transaction_may_end_and_none_may_begin(sql: str) -> None:
    statement = Classifier(None).classify(sql)
    for transaction in TRANSACTIONS:
        plan = planned(statement, transaction)
        ends = sql in ENDS or (sql.startswith("XA") and transaction)
        assert bool(plan.refusal) == (not ends), (sql, transaction)
    assert bool(refuse_raw_write(statement.kind, statement.reason)) == (sql not in ENDS)
