"""Let tracing tools that wrap ``pymysql.connect`` see this library's connections.

Such a tool (OpenTelemetry's, Datadog's, Elastic's, New Relic's) replaces ``pymysql.connect``, puts a proxy
around the connection that it returns, and reports what the proxy's cursors execute. This library opens its
connections itself, so the tool gets an unopened connection of the driver's to wrap, whose methods lead to the
real one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pymysql
from pymysql.connections import Connection


def _innermost(wrapped: object, wanted: object = None) -> object:
    """Return the object inside all proxies around it, or the first one whose real class is `wanted`."""
    while type(wrapped) is not wanted:
        inner: object = getattr(wrapped, "__wrapped__", None)
        if inner is None:
            break
        wrapped = inner
    return wrapped


# The methods that tools report.
_REPORTED = ("cursor", "commit", "rollback")

# A tool may have wrapped the class too, before this module was imported.
_DRIVERS = _innermost(Connection)


def report_to_tools(conn: Connection) -> None:
    """Let the tool that has wrapped ``pymysql.connect``, if any, report a connection's statements.

    The library's own questions do not use these methods, so they are not reported.
    """
    connect: Callable[..., object] = pymysql.connect
    if connect is _DRIVERS:
        return
    try:
        wrapped = connect(
            host=conn.host,
            port=conn.port,
            user=conn.user,
            database=conn.db,
            defer_connect=True,
            ssl_disabled=True,  # or each would read the system's certificates
        )
    except Exception:
        return  # it needs an open connection
    unopened = _innermost(wrapped, _DRIVERS)
    if unopened is wrapped or type(unopened) is not _DRIVERS:
        return
    # Weak, because the connection keeps the proxy alive.
    real = weakref.ref(conn)
    for name in _REPORTED:
        setattr(unopened, name, _leading_to(real, getattr(type(conn), name)))
        setattr(conn, name, getattr(wrapped, name))


def _leading_to(real: weakref.ref[Connection], method: Callable[..., object]) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        return method(real(), *args, **kwargs)

    return call
