"""Fixtures: real clusters, one per server and worker, started when first asked for."""

from __future__ import annotations

import ast
import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest
from hypothesis import HealthCheck, settings
from support.clusters import SERVERS
from support.clusters.lagging import MODELS, clear, frozen
from support.clusters.repaired import repaired, stop_all
from support.clusters.shared import KINDS, pause_others, shared, stop_shared
from support.databases.models import Item, Note
from support.databases.nodes import stop_probers
from support.databases.renewed import renew
from support.peewees import WITHOUT_ASYNCIO, pytest_pycollect_makemodule, skip_asyncio
from support.tls import share_context
from support.versions import versions

from peewee_replicas.consistency import process_history
from peewee_replicas.consistency.catch_up import CatchUp, Late
from peewee_replicas.testing import LocalCluster

# A machine under load must not fail a property that holds.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")

__all__ = ["pytest_pycollect_makemodule"]

if not WITHOUT_ASYNCIO:
    from support.forms.in_loop import pytest_pyfunc_call, pytest_runtest_protocol

    __all__ += ["pytest_pyfunc_call", "pytest_runtest_protocol"]

share_context()


_parse = ast.parse


def _parse_uncollected(*arguments: Any, **options: Any) -> Any:
    # Python 3.11 loses count of its depth (SystemError) if the collector runs meanwhile and what it
    # finalizes formats a traceback, which parses as well.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _parse(*arguments, **options)
    finally:
        if was_enabled:
            gc.enable()


ast.parse = _parse_uncollected  # type: ignore[assignment]


_SERVER_TESTS = Path(__file__).parent / "servers"


def pytest_configure(config: pytest.Config) -> None:
    if sys.version_info >= (3, 15) and "PYTEST_XDIST_WORKER" in os.environ:
        # From 3.15 on, the warning of threads at a fork counts the thread of xdist's worker as well.
        config.addinivalue_line(
            "filterwarnings", "ignore:.*is multi-threaded, use of fork:DeprecationWarning"
        )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules of which no test would run: importing them takes each worker some seconds."""
    if "not once" not in config.option.markexpr.split(" and ") or collection_path.suffix != ".py":
        return None
    needless = (
        collection_path.is_relative_to(_SERVER_TESTS) and "mark.core" not in collection_path.read_text()
    )
    return needless or None  # False would collect what others leave out


# These take longest, so they begin first: a worker that began one last would leave the others idle.
_LONGEST = (
    "connections/test_own_questions.py", "programs/test_benchmarks.py", "nodes/test_follow_primary.py",
    "nodes/test_shared_probers.py", "consistency/test_write_cases.py", "consistency/test_faults.py",
    "execution/test_interrupted_anywhere.py", "connections/test_leaks.py",
    "connections/test_client_stopped_while_connecting.py", "consistency/test_failover_that_loses_writes.py",
    "execution/test_load.py", "consistency/test_galera.py", "connections/test_session_state.py",
    "nodes/test_node_failure.py", "routing/test_transactions.py", "nodes/test_group_replication.py",
    "connections/test_prefork.py", "consistency/test_checker.py",
)  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let the collector leave out what lives until the end: it took a third of the time of unit tests."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark tests on servers as `once` unless they are `core`, and skip what the installed peewee lacks."""
    skip_asyncio(items)
    for item in items:
        if item.path.is_relative_to(_SERVER_TESTS) and not item.get_closest_marker("core"):
            item.add_marker("once")
    yield  # others choose the tests, and their order
    places = {_SERVER_TESTS / name: place for place, name in enumerate(_LONGEST)}
    # Modules that share repaired clusters follow each other, so that fewer of these clusters are started.
    _sharing.update(item.path for item in items if _uses_repaired(item))
    for item in items:
        _kinds_of.setdefault(item.path, set()).update(KINDS.keys() & set(getattr(item, "fixturenames", ())))
    items.sort(key=lambda item: places.get(item.path, len(places) + _turn(item)))


def _turn(item: pytest.Item) -> int:
    """Return when a module comes, after the longest: those without servers last, because they never wait."""
    if item.path in _sharing:
        return 0 if "pair" in _kinds_of[item.path] else 1
    return 2 if item.path.is_relative_to(_SERVER_TESTS) else 3


# The modules whose tests use repaired clusters, by any of the ways to get one.
_sharing: set[Path] = set()
# Which of the other clusters each module uses.
_kinds_of: dict[Path, set[str]] = {}
_FIXTURES = {"own_pair", "own_three", "disposable_pair"}


def _uses_repaired(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    return hasattr(getattr(item, "module", None), "repaired") or not _FIXTURES.isdisjoint(names)


def pytest_report_header() -> str:
    """Say which versions the tests run with."""
    found = versions()
    named = {**found["packages"], **found["servers"]}
    return f"versions: {', '.join(f'{name} {version}' for name, version in named.items())}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the versions beside the report; `scripts/tested.py` makes a table of both."""
    report = session.config.getoption("xmlpath", None)
    if report and not hasattr(session.config, "workerinput"):
        Path(report).with_suffix(".versions.json").write_text(json.dumps(versions()))


@pytest.fixture(scope="session", autouse=True)
def _stop_clusters() -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(stop_shared)
        stack.callback(stop_all)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop or pause the clusters that the module of the test does not use: they take memory and time."""
    kinds = _kinds_of.get(item.path, set())
    if item.path not in _sharing:
        stop_all()
    elif "pair" not in kinds:
        stop_shared({"pair"})  # few modules use one, and now there are the repaired clusters as well
    if not item.path.is_relative_to(_SERVER_TESTS):
        stop_shared()  # these tests come last
    pause_others(kinds)


@pytest.fixture(autouse=True)
def _nothing_written_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database object begins as in a new process, whatever other tests wrote to the same servers."""
    monkeypatch.setattr(process_history, "_by_endpoint", WeakValueDictionary())


@pytest.fixture(autouse=True)
def _waits_in_full(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads wait for replicas whatever time that takes, so that a busy machine does not change where they go.

    Tests marked `judges` let reads decide whether to wait, as programs do.
    """
    if request.node.get_closest_marker("judges") is None:
        monkeypatch.setattr(CatchUp, "judge", lambda *_, **__: Late.WAIT)


@pytest.fixture(params=["threads", pytest.param("asyncio", marks=pytest.mark.once)])
def form(request: pytest.FixtureRequest) -> str:
    """The form of the library that the test runs against; `support.forms` says how."""
    return str(request.param)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Each server in turn."""
    return str(request.param)


@pytest.fixture
def no_prober_left() -> None:
    """Stop the probers of databases that earlier tests have left: servers count what these send as well."""
    stop_probers()


@pytest.fixture
def cluster(server: str, no_prober_left: None) -> LocalCluster:
    """A healthy primary with two replicas, all caught up; shared by the tests of one worker.

    A test that stops, freezes or reconfigures a node uses a cluster of its own.
    """
    found = shared("cluster", server)
    found.sync()
    return found


@pytest.fixture
def pair(server: str, no_prober_left: None) -> LocalCluster:
    """A primary and one replica with the row ("a", 1) in `slot`; shared by the tests of one worker.

    A test may freeze the replica, and nothing worse.
    """
    found = shared("pair", server)
    clear(found, ("a", 1))
    return found


@pytest.fixture
def lagging(pair: LocalCluster) -> Iterator[LocalCluster]:
    """`pair`, its replica frozen."""
    with frozen(pair):
        yield pair


@pytest.fixture
def own_pair(server: str) -> Iterator[LocalCluster]:
    """Like `pair`, for a test that kills, pauses or stops nodes."""
    with repaired(server, 1, MODELS) as found:
        clear(found, ("a", 1))
        yield found


@pytest.fixture
def own_three(server: str) -> Iterator[LocalCluster]:
    """Like `own_pair`, with two replicas."""
    with repaired(server, 2, MODELS) as found:
        clear(found, ("a", 1))
        yield found


@pytest.fixture
def disposable_pair(server: str) -> Iterator[LocalCluster]:
    """Like `own_pair`, for a test that replaces a server."""
    with repaired(server, 1, MODELS, spoils=True) as found:
        clear(found, ("a", 1))
        yield found


@pytest.fixture
def db(cluster: LocalCluster) -> Iterator[Any]:
    """A `ReplicatedDatabase` over the cluster, with `Item` and `Note` bound, empty and replicated.

    Its consistency is eventual, so that the servers count what the test sent and no waits beside it.
    """
    database = cluster.database(consistency="eventual")
    with database.bind_ctx([Item, Note]):
        renew(cluster, database)
        cluster.sync()
        database.close()
        cluster.reset_counts()
        yield database
    if not database.is_closed():
        while database.in_transaction():
            database.pop_transaction()
        database.close()


@pytest.fixture
def routine(db: Any, cluster: Any) -> Iterator[Any]:
    """Makes a procedure, or a function, and drops it afterwards."""
    made = []

    def make(kind: str, name: str, body: str) -> None:
        with cluster.database(user="admin").primary() as admin:
            made.append(f"DROP {kind} IF EXISTS {name}")
            admin.execute_sql(made[-1])
            returns = " RETURNS INT DETERMINISTIC" if kind == "FUNCTION" else ""
            admin.execute_sql(f"CREATE {kind} {name}(){returns} BEGIN {body}; END")
            admin.close()
        cluster.sync()

    yield make
    with cluster.database(user="admin").primary() as admin:
        for text in made:
            admin.execute_sql(text)
        admin.close()
    cluster.sync()
