"""Types for the parts of a peewee database that this library uses; peewee declares none."""

from __future__ import annotations

from typing import Protocol

from ..servers.protocols import Cursor, Parameters, ServerConnection

__all__ = ["Cursor", "Parameters", "ThreadState"]


class ThreadState(Protocol):
    """The state of a peewee database for one thread or task.

    Attributes:
        closed: whether the thread has no connection.
        conn: the thread's connection to the primary or the node.
        ctx, transactions: the open contexts and transactions.
        commit_callbacks: called after the transaction commits.
        unreached: `Node.unreached` when the thread began to connect.
    """

    closed: bool
    conn: ServerConnection | None
    ctx: list[object]
    transactions: list[object]
    commit_callbacks: list[object]
    unreached: int

    def reset(self) -> None:
        """Forget the connection, contexts and transactions."""

    def set_connection(self, conn: ServerConnection, /) -> None:
        """Store the connection, and forget contexts and transactions."""
