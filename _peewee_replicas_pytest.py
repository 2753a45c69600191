"""The pytest plugin of peewee_replicas.

It stands beside the package because importing any module of the package imports peewee and the driver, and
pytest loads this plugin in every suite whose environment has the library. A suite that patches the standard
library first, as with gevent, must find sockets and TLS not imported yet. So nothing of the library is
imported until a fixture is used; the fixtures' work is done by `peewee_replicas.testing.fixtures`.

Common plugins' fixtures have names such as ``db``, ``database``, ``cluster``, ``server``, ``mysql`` and
``client``. A fixture here has "replica" in its name, or is named like the function of
`peewee_replicas.testing` that it calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from peewee_replicas.databases.replicated import Replicated
    from peewee_replicas.events import RouteEvent
    from peewee_replicas.testing import LocalCluster
    from peewee_replicas.testing.fixtures import Faults

    RouteCheck = Callable[..., AbstractContextManager[list[RouteEvent]]]


_HELP = "server of replica_cluster: mariadb, mysql, or with a version such as mariadb-11.8"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--peewee-replicas-server`` and the setting ``peewee_replicas_server``."""
    group = parser.getgroup("peewee_replicas", "clusters of peewee_replicas")
    group.addoption("--peewee-replicas-server", metavar="SERVER", default="", help=_HELP)
    parser.addini("peewee_replicas_server", _HELP, default="")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show the server and its version, if the suite names the server."""
    named = _named(config)
    return _header(named) if named else None


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> str | None:
    """Show the server and its version, if a test uses it and the header could not know."""
    if _named(config) or not any(map(_uses_cluster, items)):
        return None
    return _header("")


def _uses_cluster(item: pytest.Item) -> bool:
    info: Any = getattr(item, "_fixtureinfo", None)
    found = info and info.name2fixturedefs.get("replica_cluster")
    return bool(found) and found[-1].func.__module__ == __name__  # else the suite's own fixture of this name


def _named(config: pytest.Config) -> str:
    return config.getoption("--peewee-replicas-server") or config.getini("peewee_replicas_server") or ""


def _header(named: str) -> str:
    from peewee_replicas.testing.fixtures import header

    return header(named)


@pytest.fixture(scope="session")
def replica_cluster_options() -> dict[str, Any]:
    """Arguments of `LocalCluster` for ``replica_cluster``; define a fixture of this name to change them."""
    return {}


@pytest.fixture(scope="session")
def replica_cluster(
    request: pytest.FixtureRequest, replica_cluster_options: dict[str, Any]
) -> Iterator[LocalCluster]:
    """A primary and its replicas on this machine, one cluster for the session; under xdist for each worker.

    It is skipped if no server is installed.
    """
    from peewee_replicas.testing.fixtures import running_cluster

    yield from running_cluster(_named(request.config), replica_cluster_options)


@pytest.fixture
def clean_replica_cluster(replica_cluster: LocalCluster) -> LocalCluster:
    """The session's cluster, its nodes up and caught up, its database empty, its counts at zero."""
    from peewee_replicas.testing.emptying import empty

    empty(replica_cluster)
    return replica_cluster


@pytest.fixture
def replicated_database(clean_replica_cluster: LocalCluster) -> Iterator[Replicated]:
    """The database under test: by default a `ReplicatedDatabase` over ``clean_replica_cluster``.

    Define a fixture of this name to let the others work with your program's own database.
    """
    from peewee_replicas.testing.fixtures import opened_database

    yield from opened_database(clean_replica_cluster)


@pytest.fixture
def one_server(replicated_database: Replicated, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The database under test; the primary plays all roles, and the test is rolled back at its end.

    See `peewee_replicas.testing.one_server`. With an asyncio database, the test must be an async function.
    """
    from peewee_replicas.testing.fixtures import play_all_roles

    yield from play_all_roles(replicated_database, request)


@pytest.fixture
def assert_routes(replicated_database: Replicated) -> RouteCheck:
    """``with assert_routes("replica", "primary"):`` checks where the block's statements run, in order."""
    from peewee_replicas.testing.routes import assert_routes as check

    def on(*expected: str, database: Replicated | None = None) -> AbstractContextManager[list[RouteEvent]]:
        return check(database or replicated_database, *expected)

    return on


@pytest.fixture
def assert_no_replica_reads(replicated_database: Replicated) -> RouteCheck:
    """``with assert_no_replica_reads():`` checks that no statement of the block runs on a replica."""
    from peewee_replicas.testing.routes import assert_no_replica_reads as check

    def on(*, database: Replicated | None = None) -> AbstractContextManager[list[RouteEvent]]:
        return check(database or replicated_database)

    return on


@pytest.fixture
def raise_on_next(replicated_database: Replicated) -> Iterator[Faults]:
    """``raise_on_next("replica-1", OperationalError(2013))``: the next statement sent to that node fails so.

    At the end of the test, a fault that no statement has met fails the test.
    """
    from peewee_replicas.testing.fixtures import Faults

    faults = Faults(replicated_database)
    yield faults
    faults.end()
