"""One server in all roles: for test-suites of programs that read from replicas in production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peewee_replicas.routing.router import Rehearsal


@contextmanager
def one_server(database: Any, *, transaction: bool = False) -> Iterator[Any]:
    """Let the primary play all roles, while routes and refusals stay as in production.

    Statements are routed, counted, refused and reported (``route_hooks``, ``stats()``, ``explain_route()``)
    as if the replicas were there, and then run on the primary's connection; the replicas' addresses are never
    connected to. A test so sees its own rows at once, and a write inside ``readonly()`` still fails.

    Parameters:
        database: the database under test.
        transaction: run the block in one transaction that is rolled back at its end. To the program it does
            not exist: its own transactions become savepoints, ``close()`` keeps it. Two things are not as in
            production: the server's refusal of a write that the text does not show, and what commits by
            itself (DDL, a raw ``BEGIN``).

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
        if transaction:
            with _rolled_back(database, core):
                yield database
        else:
            yield database
    finally:
        core.rehearsal = None


@contextmanager
def _rolled_back(database: Any, core: Any) -> Iterator[None]:
    was_closed = database.is_closed()
    conn = database._writer()
    conn.run_setting("BEGIN")
    core.rehearsal = Rehearsal(conn)
    try:
        yield
    finally:
        # The program may have closed the database, or left a transaction of its own open.
        database._writer()
        while database.in_transaction():
            database.pop_transaction()
        core.rehearsal = Rehearsal(None)
        conn.run_setting("ROLLBACK")
        if was_closed:
            database.close()
