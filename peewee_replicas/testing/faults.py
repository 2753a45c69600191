"""Errors of nodes in tests, without a server that fails."""

from __future__ import annotations

import sqlite3
import threading
from difflib import get_close_matches
from functools import partial
from types import TracebackType

import pymysql.err
from peewee import PeeweeException, __exception_wrapper__

from peewee_replicas.connections.peewee_types import Cursor, Parameters
from peewee_replicas.connections.plain_database import PlainDatabase
from peewee_replicas.connections.primary_connection import PrimaryConnection
from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.nodes.cluster import PRIMARY, Cluster
from peewee_replicas.nodes.node import Node
from peewee_replicas.servers.error_meanings import Meaning
from peewee_replicas.servers.protocols import ServerConnection
from peewee_replicas.testing.proxies import behind_proxy

_WORDS = "raised by raise_on_next()"
_ENDS_CONNECTION: frozenset[Meaning] = frozenset({"lost", "killed", "not sent", "unreachable", "leaving"})


def raise_on_next(database: Replicated, node: str, error: Exception, *, times: int = 1) -> Fault:
    """Let the next statements that are sent to a node fail with an error.

    Such a statement is not sent. The library treats the error as if the node had caused it: it tries the
    read elsewhere, ejects the node, raises `OutcomeUnknown` and so on. After an error that means a lost
    connection, the connection is closed, as the driver does. It works with real nodes and inside
    `one_server`. Statements that begin or end a transaction do not fail.

    It takes effect at once. Use the result in a ``with`` block, or call its ``end()``: both put the node
    back into rotation if the error has ejected it.

    Parameters:
        database: the database under test; of the synchronous form or of the asyncio form.
        node: the name of a replica, or ``"primary"``.
        error: an error of peewee's or of the driver, such as ``OperationalError(2013)``; a text is added if
            it has none.
        times: how many statements fail.

    Raises:
        KeyError: there is no such node.
        ValueError: `times` is no number above 0.
    """
    if type(times) is not int or times < 1:
        raise ValueError(f"times={times!r}: a number of statements, 1 or more, is wanted")
    return Fault(behind_proxy(database), node, error, times)


class Fault:
    """An error that waits for statements on its node. Made by `raise_on_next`.

    Attributes:
        raised: whether all its statements have met it.
    """

    def __init__(self, database: Replicated, node: str, error: Exception, times: int) -> None:
        parts = self._parts = database._parts
        self.raised = False
        self._times = self._left = times
        self._name = node
        self._error = _as_drivers(error, sqlite=parts.router.dialect == "sqlite")
        self._node = parts.cluster.reader if node == PRIMARY else _replica(parts.cluster, node)
        self._was_ejected = self._node.breaker.open
        self._targets = [_database_of(self._node)]
        if node == PRIMARY:
            self._targets.append(parts.primary.plain)
        with _lock:
            for target in self._targets:
                _waiting.setdefault(target, []).append(self)
                target.send = partial(_send, target)  # type: ignore[method-assign]  # of this object alone

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.end()
        if kind is None:
            self.check()

    def end(self) -> None:
        """Disarm it, and put the node back into rotation if it has been ejected meanwhile."""
        self.disarm()
        if self._node.breaker.open and not self._was_ejected:
            self._node.restore()

    def check(self) -> None:
        """Raise `AssertionError` if fewer statements have met the error than should."""
        __tracebackhide__ = True
        if not self.raised:
            met = self._times - self._left
            sent = f"only {met} of {self._times} statements were" if met else "no statement was"
            raise AssertionError(f"{sent} sent to {self._name}, so its error was not raised")

    def strike(self, conn: ServerConnection | None) -> None:
        """Raise the error.

        Parameters:
            conn: the node's own connection, which ends if the error means so; None if it must stay open.
        """
        # The connection of a test in a transaction of its own must survive.
        in_test_transaction = not isinstance(self._parts.primary, PrimaryConnection)
        ends = self._parts.diagnosis.meaning(self._error) in _ENDS_CONNECTION
        if conn is not None and ends and not in_test_transaction:
            conn.abort()
        with __exception_wrapper__:
            raise self._error

    def met(self) -> None:
        """Count a statement that is about to get the error; wait for none after the last."""
        self._left -= 1
        if not self._left:
            self.raised = True
            self.disarm()

    def disarm(self) -> None:
        """Wait for no statement any longer."""
        with _lock:
            for target in self._targets:
                faults = _waiting.get(target, [])
                if self in faults:
                    faults.remove(self)
                if not faults and _waiting.pop(target, None) is not None:
                    del target.send


_lock = threading.RLock()
_waiting: dict[PlainDatabase, list[Fault]] = {}
"""The faults of each node's database, in the order in which they strike."""


def meet_fault(node: Node) -> None:
    """Raise the next error that waits for this node, if there is one; no connection ends."""
    fault = _take(_database_of(node))
    if fault is not None:
        fault.strike(None)


def _take(target: PlainDatabase) -> Fault | None:
    """Return the next fault that waits for a statement there, which no other thread gets then."""
    with _lock:
        faults = _waiting.get(target)
        if not faults:
            return None
        fault = faults[0]
        fault.met()
        return fault


def _send(
    target: PlainDatabase, conn: ServerConnection, sql: str, params: Parameters, comment: str = ""
) -> Cursor:
    fault = _take(target)
    if fault is not None:
        fault.strike(conn)
    return type(target).send(target, conn, sql, params, comment)  # another thread has met the fault


def _replica(cluster: Cluster, name: str) -> Node:
    replicas = cluster.replicas.all
    for node in replicas:
        if node.name == name:
            return node
    names = [PRIMARY, *(node.name for node in replicas)]
    near = get_close_matches(str(name), names, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise KeyError(f"no node {name!r}: there are {', '.join(names)}{meant}")


def _database_of(node: Node) -> PlainDatabase:
    database = node.database
    assert isinstance(database, PlainDatabase)
    return database


def _as_drivers(error: Exception, *, sqlite: bool) -> Exception:
    """Return the driver's error for an error of peewee's, because peewee translates what it catches."""
    kind, args = type(error), error.args
    if isinstance(error, PeeweeException):
        kind = getattr(sqlite3 if sqlite else pymysql.err, kind.__name__)
    if len(args) == 1 and isinstance(args[0], int):
        args = (*args, _WORDS)
    return kind(*args)
