"""Statements from a context copied inside ``atomic()`` are not part of that transaction, and are reported."""

from __future__ import annotations

import contextvars
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from peewee import CharField, Model, ProgrammingError
from support.peewees import has_peewee

from peewee_replicas import TransactionEscapeError, TransactionEscapeWarning


class Escapee(Model):
    name = CharField()


@contextmanager
def bound(cluster: Any, action: str, **arguments: Any) -> Iterator[Any]:
    db = cluster.database(on_transaction_escape=action, **arguments)
    with db.bind_ctx([Escapee]):
        with db.primary():
            db.drop_tables([Escapee], safe=True)
            db.create_tables([Escapee])
        yield db
    db.close()


def in_copied_context(db: Any, work: Callable[[], Any], context: Any = None) -> Any:
    """Run it in another thread that has a copy of this context; what it returned or raised."""
    context = contextvars.copy_context() if context is None else context
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(context.run(work))
        except Exception as exc:
            outcome.append(exc)
        finally:
            db.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def count() -> int:
    return Escapee.select().count()


def create() -> Any:
    return Escapee.create(name="escaped")


def test_a_statement_that_escapes_is_refused_before_it_is_sent(cluster: Any) -> None:
    with bound(cluster, "error") as db:
        with db.atomic():
            opened_at = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
            Escapee.create(name="inside")
            for work in (count, create, lambda: db.atomic().__enter__(), lambda: db.cursor(), db.begin):
                escaped = in_copied_context(db, work)
                assert isinstance(escaped, TransactionEscapeError), work
                assert isinstance(escaped, ProgrammingError)
                assert f"{__file__}:{opened_at} in test_a_statement" in str(escaped)
                assert str(escaped).count(__file__) == 2  # where it was opened, and where it was escaped
            with db.on_primary.atomic(), db.primary():
                assert count() == 1  # the transaction's own savepoints and scopes are no escape
        with db.primary():
            assert count() == 1


@pytest.mark.parametrize("action", ["ignore", "warn"])
def test_a_statement_that_escapes_runs_outside_the_transaction(cluster: Any, action: str) -> None:
    with bound(cluster, action) as db:
        with pytest.raises(ZeroDivisionError), db.atomic():
            Escapee.create(name="rolled back")
            if action == "warn":
                with pytest.warns(TransactionEscapeWarning, match=r"INSERT.* is not part") as told:
                    in_copied_context(db, create)
                assert {warning.filename for warning in told} == {__file__}
            else:
                in_copied_context(db, create)
            raise ZeroDivisionError
        with db.primary():
            assert [row.name for row in Escapee.select()] == ["escaped"]


def test_a_statement_that_does_not_escape_is_not_reported(cluster: Any) -> None:
    with bound(cluster, "error") as db, warnings.catch_warnings():
        before = contextvars.copy_context()
        with db.atomic() as outer:
            inside = contextvars.copy_context()
            Escapee.create(name="one")
            with db.atomic():
                assert count() == 1
            outer.commit()
            assert count() == 1
            cluster.sync()  # other threads are sessions of their own
            # Started before the transaction, or with a context of its own.
            assert in_copied_context(db, count, before) == 1
            assert in_copied_context(db, count, contextvars.Context()) == 1
            if has_peewee("4.5"):
                db.after_commit(count)
        assert in_copied_context(db, count, inside) == 1  # the transaction is over
        assert count() == 1


def test_every_transaction_of_one_context_has_a_connection_and_an_outcome_of_its_own(cluster: Any) -> None:
    with bound(cluster, "error") as db:

        def block(name: str) -> Any:
            with db.atomic() as transaction:
                Escapee.create(name=name)
                if name == "b":
                    transaction.rollback()
            return name

        outcomes = [in_copied_context(db, lambda name=name: block(name)) for name in "abc"]
        assert outcomes == ["a", "b", "c"]
        with db.primary():
            assert sorted(row.name for row in Escapee.select()) == ["a", "c"]


def test_a_transaction_of_another_database_does_not_matter(cluster: Any) -> None:
    with bound(cluster, "error") as db, bound(cluster, "error") as other, db.atomic():
        rows = in_copied_context(other, lambda: other.execute_sql("SELECT 1").fetchall())
        assert tuple(rows) == ((1,),)


def test_a_transaction_left_in_another_context_is_over_everywhere(cluster: Any) -> None:
    with bound(cluster, "error") as db:

        def generator() -> Iterator[None]:
            with db.atomic():
                yield

        steps = generator()
        first = contextvars.copy_context()
        first.run(next, steps)
        copied = first.copy()
        assert isinstance(in_copied_context(db, count, copied.copy()), TransactionEscapeError)
        contextvars.copy_context().run(next, steps, None)
        assert in_copied_context(db, count, copied.copy()) == 0


def test_a_transaction_of_its_own_does_not_take_part_in_the_one_around_it_either(cluster: Any) -> None:
    with bound(cluster, "warn") as db, db.atomic():

        def block() -> None:
            with db.atomic():
                create()

        with pytest.warns(TransactionEscapeWarning) as told:
            in_copied_context(db, block)
        assert [str(warning.message)[:7] for warning in told] == ["'BEGIN'"]
