"""One server in all roles: for test-suites of programs that read from replicas in production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peewee_replicas.replication import Rehearsal


@contextmanager
def one_server(database: Any, *, transaction: bool = False) -> Iterator[Any]:
    """Let the primary play all roles, while routes and refusals stay as in production.

    Statements are routed, counted, refused and reported (``route_hooks``, ``stats()``, ``explain_route()``)
    as if the replicas were there, and then run on the primary's connection; the replicas' addresses are never
    connected to. A test so sees its own rows at once, and a write inside ``readonly()`` still fails.

    Parameters:
        database: the database under test.
        transaction: run the block in one transaction that is rolled back at its end. It does not count as a
            transaction for routing; those opened inside it do. The server's own refusal of writes inside
            ``readonly()`` cannot be had then, only the refusal by kind.

    Raises:
        RuntimeError: a transaction is open already, or the database is being tested in this way already.
    """
    database = getattr(database, "obj", database)  # a proxy's database
    core = database._replication
    if core.rehearsal is not None:
        raise RuntimeError("one_server() is already in force for this database")
    if database.in_transaction():
        raise RuntimeError("one_server() cannot start inside a transaction; enter it first")
    core.rehearsal = Rehearsal(None)
    try:
        if not transaction:
            yield database
            return
        with database.atomic() as around:
            core.rehearsal = Rehearsal(around)
            try:
                yield database
            finally:
                around.rollback()
    finally:
        core.rehearsal = None
