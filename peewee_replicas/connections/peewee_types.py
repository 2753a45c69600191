"""What this library uses of a peewee database, which declares no types of its own."""

from __future__ import annotations

from typing import Protocol

from ..servers.protocols import Cursor, Parameters, ServerConnection

__all__ = ["Cursor", "Parameters", "ThreadState"]


class ThreadState(Protocol):
    """What a peewee database keeps for each thread, or task.

    Attributes:
        closed: whether it has no connection.
        conn: its connection to the database, which here is the primary's or the node's.
        ctx, transactions: the contexts and transactions that are open.
        commit_callbacks: what is called once the transaction has committed.
        unreached: how often the node had been found out of reach when it began to connect.
    """

    closed: bool
    conn: ServerConnection | None
    ctx: list[object]
    transactions: list[object]
    commit_callbacks: list[object]
    unreached: int

    def reset(self) -> None:
        """Have no connection, and nothing in progress."""

    def set_connection(self, conn: ServerConnection, /) -> None:
        """Have this connection."""
