"""What this library uses of a peewee database, which declares no types of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..servers.protocols import ServerConnection

if TYPE_CHECKING:
    from .opening import Opening

Parameters = object
"""A statement's parameters, whatever the driver takes."""


class Cursor(Protocol):
    """A DB-API cursor, as far as this library and peewee look at it."""

    @property
    def connection(self) -> object:
        """The connection it reads from."""

    def execute(self, sql: str, params: Parameters, /) -> object:
        """Run a statement."""

    def fetchone(self) -> Sequence[object] | None:
        """The next row."""

    def fetchall(self) -> Sequence[Sequence[object]]:
        """All rows that are left."""

    def close(self) -> object:
        """Be done with it."""

    def __iter__(self) -> Iterator[Sequence[object]]: ...


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


class UserDatabase(Protocol):
    """A database of one of this library's classes, or of a user's own subclass.

    Attributes:
        plain_cursor: whether no subclass has a ``cursor()`` of its own.
        routing_arguments: the names of this library's arguments.
        opening: how its connections are opened.
        database, connect_params: the schema's name, and what else is handed to the driver.
    """

    plain_cursor: ClassVar[bool]
    routing_arguments: ClassVar[tuple[str, ...]]
    opening: Opening
    database: str | None
    connect_params: dict[str, object]
    deferred: bool
    autoconnect: bool
    server_version: object
    query_hooks: list[Callable[..., object]]
    _state: ThreadState
    _lock: object
    plain_arguments: tuple[tuple[object, ...], dict[str, object]]

    def connect(self) -> bool: ...
    def close(self) -> bool: ...
    def cursor(self, named_cursor: object = None, /) -> Cursor: ...
    def in_transaction(self) -> bool: ...
    def _close(self, conn: ServerConnection, /) -> object: ...
    def _connect(self) -> ServerConnection: ...
    def _set_server_version(self, conn: ServerConnection, /) -> object: ...
    def _log_query(self, sql: str, params: Parameters, /) -> object: ...
    def _notify_hooks(self, sql: str, params: Parameters, started: float, error: object, /) -> object: ...
