"""The types of the arguments of the database classes, for editors and type checkers.

The constructors list this library's and the pool's arguments with their defaults, and take those of peewee
and of the driver from here. ``init()`` takes all from here, because an argument left out of it keeps its
value. At run time `argument_names` refuses unknown names. A test compares all lists with the signatures of
peewee and of the drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from typing import Any, Protocol, TypedDict, TypeVar

from ..nodes.replica import Replica
from ..routing.policies import Policy, PolicyName
from ..routing.settings import (
    Fallback,
    Level,
    OnTransactionEscape,
    ReadonlyInTransaction,
    Reads,
    Spread,
)

T = TypeVar("T", covariant=True)


class ListOf(Protocol[T]):
    """A list, a tuple or the like; not a string, whose ``__contains__()`` takes no object but a string."""

    def __contains__(self, value: object, /) -> bool: ...
    def __iter__(self) -> Iterator[T]: ...
    def __getitem__(self, index: int, /) -> T: ...


OneReplica = str | Mapping[str, Any]
Replicas = ListOf[OneReplica] | Set[OneReplica] | ValuesView[OneReplica] | Iterator[OneReplica]
"""A list of replicas: neither one string nor one dict, which are iterable too."""

ReplicasArgument = Replicas | Callable[[], Replicas] | Callable[[Any], Replicas]
"""The argument ``replicas``: a list, or a callable that returns one, which may take the database."""


TagsArgument = Mapping[str, str] | Sequence[Mapping[str, str]]
"""The argument ``tags`` of ``readonly()``: a dict, or several tried in order."""


class PolicyObject(Protocol):
    """A policy of a class."""

    def __call__(self, replicas: Sequence[Replica], /) -> Replica: ...


PolicyArgument = PolicyName | Policy | type[PolicyObject]


class RoutingArguments(TypedDict, total=False):
    """This library's arguments that SQLite takes too; `ReplicatedDatabase` documents them."""

    policy: PolicyArgument
    reads: Reads
    fallback: Fallback
    spread: Spread
    readonly_in_transaction: ReadonlyInTransaction
    pure_functions: Iterable[str]
    consistency: Level
    catch_up_timeout: float
    sticky_seconds: float
    max_lag: float | None
    max_fallback_share: float | None
    on_transaction_escape: OnTransactionEscape
    probe_interval: float | None
    heartbeat_table: str | None


class PeeweeArguments(TypedDict, total=False):
    """peewee's arguments for every database."""

    thread_safe: bool
    autorollback: bool
    field_types: Mapping[str, str] | None
    operations: Mapping[str, str] | None
    autocommit: bool | None
    autoconnect: bool


class PasswordSource(Protocol):
    """A callable that is also told whether the server has refused what it returned before."""

    def __call__(self, node: Replica, /, *, refused: bool) -> str | bytes: ...


Password = str | bytes | Callable[[Replica], str | bytes] | PasswordSource | None
"""A password, or a callable that returns it for a `Replica`."""


class ServerArguments(PeeweeArguments, total=False):
    """The arguments for servers that peewee and both drivers accept."""

    mariadb: bool | None
    host: str | None
    user: str | None
    password: Password
    port: int | None
    unix_socket: str | None
    charset: str
    sql_mode: str | None
    read_default_file: Any
    conv: Mapping[Any, Any] | None
    use_unicode: bool | None
    client_flag: int
    cursorclass: type[Any]
    init_command: str | None
    connect_timeout: float | None
    read_default_group: str | None
    local_infile: bool
    program_name: str | None
    server_public_key: bytes | None
    ssl: Any


class PyMySQLArguments(ServerArguments, total=False):
    """The arguments of peewee and PyMySQL."""

    collation: str | None
    max_allowed_packet: int
    auth_plugin_map: Mapping[Any, Any] | None
    read_timeout: float | None
    write_timeout: float | None
    bind_address: str | None
    binary_prefix: bool
    ssl_ca: str | None
    ssl_cert: str | None
    ssl_disabled: bool | None
    ssl_key: str | None
    ssl_key_password: Any
    ssl_verify_cert: bool | None
    ssl_verify_identity: bool | None
    compress: Any
    named_pipe: Any
    passwd: Any
    db: str | None


class AiomysqlArguments(ServerArguments, total=False):
    """The arguments of peewee and aiomysql."""

    echo: bool
    auth_plugin: str


class SqliteDriverArguments(PeeweeArguments, total=False):
    """The arguments of peewee and sqlite3."""

    timeout: float
    returning_clause: bool | None
    isolation_level: None
    detect_types: int
    check_same_thread: bool
    factory: type[Any]
    cached_statements: int
    uri: bool


class MySQLArguments(RoutingArguments, PyMySQLArguments, total=False):
    """The arguments of `ReplicatedDatabase`."""

    replicas: ReplicasArgument
    refresh: float
    follow_primary: bool
    max_connection_age: float | None


class PooledArguments(MySQLArguments, total=False):
    """The arguments of `PooledReplicatedDatabase`."""

    max_connections: int | None
    stale_timeout: float | None
    timeout: float | None


class AsyncArguments(RoutingArguments, AiomysqlArguments, total=False):
    """The arguments of `AsyncReplicatedDatabase`."""

    replicas: ReplicasArgument
    refresh: float
    follow_primary: bool
    max_connection_age: float | None
    pool_size: int
    pool_min_size: int
    acquire_timeout: float
    pool_recycle: float


class SqliteArguments(RoutingArguments, SqliteDriverArguments, total=False):
    """The arguments of `ReplicatedSqliteDatabase`, except those in its own signature."""

    readers: int
