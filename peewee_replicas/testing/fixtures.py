"""What the fixtures of the pytest plugin do; loaded when one of them is used."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.testing.cluster import LocalCluster
from peewee_replicas.testing.faults import Fault, raise_on_next
from peewee_replicas.testing.installations import MissingServer, Server, find
from peewee_replicas.testing.one_server import one_server
from peewee_replicas.testing.proxies import behind_proxy

_SERVERS: tuple[Server, ...] = ("mariadb", "mysql")
_TITLES = {"mariadb": "MariaDB", "mysql": "MySQL"}


def header(named: str) -> str:
    """Return the line of the report's header: the server that the cluster runs.

    Parameters:
        named: the server as in ``--peewee-replicas-server``; ``""`` for the first one that is installed.
    """
    try:
        server, version = choose(named)
        return f"peewee_replicas: {_TITLES[server]} {find(server, version).version}"
    except MissingServer as exc:
        return f"peewee_replicas: no server, so tests that need one are skipped: {exc}"


def choose(named: str) -> tuple[Server, str | None]:
    """Return the server to start, and its version if one was asked for.

    Parameters:
        named: ``"mariadb"``, ``"mysql"``, or one of them with a version, such as ``"mariadb-11.8"``;
            ``""`` for the first one that is installed.

    Raises:
        MissingServer: it is not installed.
        UsageError: there is no such server.
    """
    if named:
        server, _, version = named.partition("-")
        try:
            find(cast(Server, server), version or None)
        except ValueError as exc:
            raise pytest.UsageError(
                "--peewee-replicas-server, or peewee_replicas_server, is mariadb, mysql, or one of them with "
                f"a version such as mariadb-11.8: {exc}"
            ) from exc
        return cast(Server, server), version or None
    missing = []
    for server in _SERVERS:
        try:
            find(server)
            return server, None
        except MissingServer as exc:
            missing.append(str(exc))
    raise MissingServer(missing[0])


def running_cluster(named: str, options: Mapping[str, Any]) -> Iterator[LocalCluster]:
    """Start a cluster and stop it at the end; skip the test if there is no server.

    Parameters:
        named: the server as in ``--peewee-replicas-server``, unless `options` name one.
        options: arguments of `LocalCluster`.
    """
    try:
        if "server" not in options:
            server, version = choose(named)
            options = {"server": server, "version": version, **options}
        with LocalCluster(**options) as cluster:
            yield cluster
    except MissingServer as exc:
        if os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1":
            pytest.fail(f"PEEWEE_REPLICAS_REQUIRE_SERVERS=1, and there is no server: {exc}", pytrace=False)
        pytest.skip(str(exc))


def opened_database(cluster: LocalCluster) -> Iterator[Replicated]:
    """Make a database over a cluster and close it at the end."""
    database = cluster.database()
    yield database
    while database.in_transaction():
        database.pop_transaction()
    database.close()
    database.dispose()


def play_all_roles(database: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run a test in one transaction on the primary, which plays all roles, and roll it back at the end.

    Parameters:
        database: the database under test.
        request: the test's; its function is wrapped if the database is one of the asyncio form.
    """
    database = behind_proxy(database)
    block = one_server(database, transaction=True)
    if not hasattr(database, "aexecute"):
        with block:
            yield database
        return
    # The block has to begin and end in the test's own event loop and task.
    item = request.node
    function = item.obj
    if not inspect.iscoroutinefunction(function):
        pytest.fail("one_server with an asyncio database needs a test that is an async function")

    @functools.wraps(function)
    async def inside(*args: object, **kwargs: object) -> object:
        __tracebackhide__ = True
        try:
            async with block:
                return await function(*args, **kwargs)
        finally:
            await database.close_pool()  # its event loop may end with the test

    item.obj = inside
    yield database
    item.obj = function


class Faults:
    """The fixture ``raise_on_next``.

    Parameters:
        database: the database under test.
    """

    def __init__(self, database: Replicated) -> None:
        self._database = database
        self._armed: list[Fault] = []

    def __call__(
        self, node: str, error: Exception, *, times: int = 1, database: Replicated | None = None
    ) -> Fault:
        """Let the next statements that are sent to a node fail, see `raise_on_next`.

        Parameters:
            node: the name of a replica, or ``"primary"``.
            error: an error of peewee's or of the driver.
            times: how many statements fail.
            database: another database than the fixture ``replicated_database``.
        """
        fault = raise_on_next(database or self._database, node, error, times=times)
        self._armed.append(fault)
        return fault

    def end(self) -> None:
        """Disarm all faults. Raises `AssertionError` if one was not met."""
        __tracebackhide__ = True
        for fault in self._armed:
            fault.end()
        for fault in self._armed:
            fault.check()
