"""The types of the arguments of the database classes, for editors and type checkers.

At run time the classes take ``**kwargs``, as peewee's do, and `argument_names` refuses unknown ones. Type
checkers use these lists instead. A test compares them with the signatures of peewee and of the drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from ..routing.settings import (
    Fallback,
    Level,
    OnTransactionEscape,
    PolicyName,
    ReadonlyInTransaction,
    Reads,
    Spread,
)


class RoutingArguments(TypedDict, total=False):
    """This library's arguments except ``replicas``; `ReplicatedDatabase` documents them."""

    policy: PolicyName | Callable[..., Any]
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


class PeeweeArguments(RoutingArguments, total=False):
    """peewee's arguments for every database."""

    thread_safe: bool
    autorollback: bool
    field_types: Mapping[str, str] | None
    operations: Mapping[str, str] | None
    autocommit: bool | None
    autoconnect: bool


class ServerArguments(PeeweeArguments, total=False):
    """The arguments for servers that both drivers accept."""

    replicas: Iterable[str | Mapping[str, Any]]
    mariadb: bool | None
    host: str | None
    user: str | None
    password: Any
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


class MySQLArguments(ServerArguments, total=False):
    """The arguments of `ReplicatedDatabase`."""

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


class PooledArguments(MySQLArguments, total=False):
    """The arguments of `PooledReplicatedDatabase`."""

    max_connections: int | None
    stale_timeout: float | None
    timeout: float | None


class AsyncArguments(ServerArguments, total=False):
    """The arguments of `AsyncReplicatedDatabase`."""

    pool_size: int
    pool_min_size: int
    acquire_timeout: float
    pool_recycle: float
    echo: bool
    auth_plugin: str


class SqliteArguments(PeeweeArguments, total=False):
    """The arguments of `ReplicatedSqliteDatabase`, except those in its own signature."""

    timeout: float
    returning_clause: bool | None
    isolation_level: None
    detect_types: int
    check_same_thread: bool
    factory: type[Any]
    cached_statements: int
    uri: bool
