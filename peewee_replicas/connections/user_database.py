"""The parts of the user's database that the connections use, as a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from ..servers.protocols import ServerConnection
from .opening import Opening
from .peewee_types import Cursor, Parameters, ThreadState

_LIBRARIES = frozenset({"peewee", "playhouse", "peewee_replicas"})


class UserDatabase(Protocol):
    """A database of one of this library's classes, or of a user's own subclass.

    Attributes:
        routing_arguments: the names of this library's arguments.
        opening: opens its connections.
        database, connect_params: the schema's name, and the driver's other arguments.
    """

    routing_arguments: ClassVar[tuple[str, ...]]
    opening: Opening
    database: object
    connect_params: dict[str, object]
    deferred: bool
    autoconnect: bool
    server_version: object
    query_hooks: list[Callable[..., object]]
    _state: ThreadState
    _lock: object
    _parts: object
    plain_arguments: tuple[tuple[object, ...], dict[str, object]]

    @property
    def routed_cursor(self) -> object:
        """The function that our class has as ``cursor()``."""

    @property
    def own_connect(self) -> str:
        """The name of the class's or the object's own method that connects; ``""`` without one."""

    def connect(self) -> bool: ...
    def close(self) -> bool: ...
    def cursor(self, *, named_cursor: object = None) -> Cursor: ...
    def in_transaction(self) -> bool: ...
    def _close(self, conn: ServerConnection, /) -> object: ...
    def _connect(self) -> ServerConnection: ...
    def _clear_commit_callbacks(self) -> None: ...
    def _set_server_version(self, conn: ServerConnection, /) -> object: ...
    def _log_query(self, sql: str, params: Parameters, /) -> object: ...
    def _notify_hooks(self, sql: str, params: Parameters, started: float, error: object, /) -> object: ...


class _Stateful(Protocol):
    @property
    def _state(self) -> ThreadState: ...


def thread_state(db: _Stateful) -> ThreadState:
    """Return peewee's state of this thread, for which peewee has no public name."""
    return db._state


def is_librarys(cls: type) -> bool:
    """Return whether a class is peewee's or ours, and not the program's own."""
    return cls.__module__.partition(".")[0] in _LIBRARIES
