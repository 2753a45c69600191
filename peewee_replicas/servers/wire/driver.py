"""Check for the internals of PyMySQL that this room uses, because a newer release may lack them."""

from __future__ import annotations

import functools

import pymysql
from pymysql.connections import Connection, MySQLResult
from pymysql.protocol import MysqlPacket

_BUILT_UPON = {
    Connection: (
        "_create_ssl_ctx", "_execute_command", "_force_close", "_get_server_information", "_read_bytes",
        "_read_ok_packet", "_read_packet", "_read_query_result", "_request_authentication", "_write_bytes",
        "autocommit", "connect", "next_result", "ping", "query", "set_character_set",
    ),
    MySQLResult: (
        "_check_packet_is_eof", "_finish_unbuffered_query", "_get_descriptions", "_read_load_local_packet",
        "_read_ok_packet", "_read_rowdata_packet", "_read_rowdata_packet_unbuffered", "init_unbuffered_query",
        "read",
    ),
    MysqlPacket: ("is_load_local_packet", "is_ok_packet"),
}  # fmt: skip


@functools.lru_cache(maxsize=1)
def missing() -> str:
    """Return what this release of PyMySQL lacks, in words; ``""`` if it lacks nothing."""
    lacks = [
        f"{owner.__name__}.{name}"
        for owner, names in _BUILT_UPON.items()
        for name in names
        if not hasattr(owner, name)
    ]
    if not lacks:
        return ""
    names = ", ".join(lacks)
    release = f"PyMySQL {pymysql.VERSION_STRING}"
    return f"{release} lacks {names}; install a release that is at least 1.1 and below 2"
