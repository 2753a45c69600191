"""The AWS Advanced Python wrapper's simple read/write splitting: two endpoints, switched by `read_only`."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from .base import Answer, Program, Site

NAME = "AWS Advanced Python wrapper (srw)"
DOCUMENTATION = "github.com/aws/aws-advanced-python-wrapper, UsingTheSimpleReadWriteSplittingPlugin.md"
FORM = 'plugins="srw", verification off as for non-RDS servers; reader endpoint: HAProxy over all replicas'
PACKAGES = ("aws-advanced-python-wrapper", "mysql-connector-python")


class Wrapped(Program):
    """A connection per thread; a broken one is replaced at the next request."""

    def __init__(self, connect: Any, switches: bool) -> None:
        self.connect = connect
        self.switches = switches
        self.local = threading.local()

    def _connection(self) -> Any:
        if getattr(self.local, "connection", None) is None:
            self.local.connection = self.connect()
        return self.local.connection

    def read(self, key: int) -> Answer:
        cursor = self._connection().cursor()
        try:
            cursor.execute("SELECT id, n, node, name FROM bench_row WHERE id = %s", (key,))
            row = cursor.fetchone()
        finally:
            cursor.close()
        return Answer(row[1], row[2])

    def _visit(self, read_only: bool, work: Any) -> Any:
        try:
            connection = self._connection()
            if self.switches:
                connection.read_only = read_only
            return work()
        except Exception:
            self.close()
            raise

    def visit_read(self, key: int) -> Answer:
        answer: Answer = self._visit(True, lambda: self.read(key))
        return answer

    def visit_write(self, key: int, n: int) -> None:
        def write() -> None:
            cursor = self._connection().cursor()
            cursor.execute("UPDATE bench_row SET n = %s WHERE id = %s", (n, key))
            cursor.close()

        self._visit(False, write)

    def close(self) -> None:
        connection, self.local.connection = getattr(self.local, "connection", None), None
        if connection is not None:
            with suppress(Exception):  # it may be what is broken
                connection.close()


def plain(site: Site) -> Program:
    """The driver that the wrapper wraps, at one replica."""
    import mysql.connector

    parameters = site.parameters(site.replicas[0])
    return Wrapped(lambda: mysql.connector.connect(**parameters, autocommit=True), False)


def routed(site: Site) -> Program:
    """Two endpoints of HAProxy."""
    import mysql.connector
    from aws_advanced_python_wrapper import AwsWrapperConnection

    if site.writers is None or site.readers is None:
        raise RuntimeError("its reader endpoint is HAProxy, and HAProxy is not there")
    parameters: dict[str, Any] = {
        **site.parameters(site.writers),
        "plugins": "srw",
        "srw_write_endpoint": site.writers.host,
        "srw_read_endpoint": site.readers.host,
        "srw_verify_new_connections": False,
        "wrapper_dialect": "mysql",
        "autocommit": True,
    }
    return Wrapped(lambda: AwsWrapperConnection.connect(mysql.connector.Connect, **parameters), True)
