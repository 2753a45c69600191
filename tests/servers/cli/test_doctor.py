"""`doctor` on wrong set-ups made on real servers: each is found on its node, and nothing else is.

The members of the kind are the codes of `cli.findings`, each with the ways in which a real server can be made
to show it: by another user, another address, a global setting, or by what replication does. They all change
one cluster in turn, and are undone. Three cannot be made here and are held by the unit tests: servers of
different releases, a connection without TLS to another machine, and a proxy that hides the trackers. The
first and the last case are a right set-up, where nothing may be found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.clusters import SERVERS, own_cluster
from support.peewees import AS_NEWEST_CONNECTS
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.cli.command import FOUND, OK, main
from peewee_replicas.cli.findings import find_faults
from peewee_replicas.cli.survey import survey
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.once

USER, BLIND = "fit", "blind"
_UNUSED_PORT = 1
Setup = Callable[["Case"], Any]


@contextmanager
def fit_cluster(server: str) -> Iterator[LocalCluster]:
    """A cluster in which nothing is wrong, with the users that the cases log in as."""
    with own_cluster(server, replicas=2) as cluster:
        right = "SLAVE MONITOR" if cluster.server == "mariadb" else "REPLICATION CLIENT"
        schema = f"{cluster.database_name}.*"
        for sql in (
            f"CREATE USER {USER}@'%' IDENTIFIED BY '{cluster.password}'",
            f"GRANT ALL PRIVILEGES ON {schema} TO {USER}@'%'",
            f"GRANT {right} ON *.* TO {USER}@'%'",
            f"CREATE USER stranger@'%' IDENTIFIED BY '{cluster.password}'",
            f"CREATE USER {BLIND}@'%' IDENTIFIED BY '{cluster.password}'",
            f"GRANT ALL PRIVILEGES ON {schema} TO {BLIND}@'%'",
            f"CREATE TABLE {cluster.database_name}.mark (n INT)",
        ):
            cluster.primary.execute(sql)
        cluster.sync()
        yield cluster


@pytest.fixture(scope="module", params=SERVERS)
def ours(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with fit_cluster(request.param) as cluster:
        yield cluster


class Case:
    """One set-up: the cluster, and the arguments of the database that the doctor looks at."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.kind: type[ReplicatedDatabase] = ReplicatedDatabase
        self.options: dict[str, Any] = {
            **cluster.parameters("primary"),
            "user": USER,
            "connect_timeout": 10,
            **AS_NEWEST_CONNECTS,
            "replicas": [self.at(node) for node in cluster.replicas],
        }
        self.processes = 1

    def at(self, node: Any, name: str = "", host: str = "") -> dict[str, Any]:
        return {"name": name or node.name, "host": host or node.host, "port": node.port}

    @property
    def mysql(self) -> bool:
        return self.cluster.server == "mysql"

    def found(self) -> list[tuple[str, str]]:
        database = self.kind(**self.options, probe_interval=None)
        return sorted(
            (finding.code, finding.node) for finding in find_faults(survey(database, 20), self.processes)
        )


@contextmanager
def set_globally(node: Any, name: str, value: str) -> Iterator[None]:
    before = node.execute(f"SELECT @@GLOBAL.{name}")[0][0]
    node.execute(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        node.execute(f"SET GLOBAL {name} = {before if isinstance(before, int) else repr(before)}")


def on_replica(name: str, value: str) -> Setup:
    return lambda case: set_globally(case.cluster.replicas[0], name, value)


def with_options(**options: Any) -> Setup:
    return lambda case: case.options.update(options)


def without_schema_right(case: Case) -> None:
    case.options["user"] = "stranger"


def unreachable(case: Case) -> None:
    case.options["replicas"][1]["port"] = _UNUSED_PORT


def primary_unreachable(case: Case) -> None:
    case.options["port"] = _UNUSED_PORT


def leads_to_a_replica(case: Case) -> None:
    case.options.update(host=case.cluster.replicas[0].host, port=case.cluster.replicas[0].port)
    case.options["replicas"] = case.options["replicas"][1:]


def read_only_primary(case: Case) -> Any:
    return set_globally(case.cluster.primary, "read_only", "ON")


def listed_twice(case: Case) -> None:
    case.options["replicas"].append(case.at(case.cluster.replicas[0], "twin", "127.1"))


def primary_by_another_name(case: Case) -> None:
    case.options["replicas"].append(case.at(case.cluster.primary, "other", "127.1"))


@contextmanager
def not_applying(case: Case) -> Iterator[None]:
    case.cluster.replicas[0].freeze()
    try:
        yield
    finally:
        case.cluster.replicas[0].thaw()


@contextmanager
def not_receiving(case: Case) -> Iterator[None]:
    replica = case.cluster.replicas[0]
    replica.execute("STOP REPLICA IO_THREAD")
    try:
        yield
    finally:
        replica.execute("START REPLICA IO_THREAD")


@contextmanager
def far_behind(case: Case) -> Iterator[None]:
    replica = case.cluster.replicas[0]
    replica.delay(3600)
    case.cluster.primary.execute(f"INSERT INTO {case.cluster.database_name}.mark VALUES (1)")
    case.options["max_lag"] = 0.5
    try:
        until(lambda: case.found() != [])  # the server counts whole seconds
        yield
    finally:
        replica.delay(0)


@contextmanager
def by_file_and_offset(case: Case) -> Iterator[None]:
    replica = case.cluster.replicas[0]
    change = ("CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = {}", 0, 1)
    if not case.mysql:
        change = ("CHANGE MASTER TO MASTER_USE_GTID = {}", "no", "slave_pos")  # type: ignore[assignment]
    try:
        for sql in ("STOP REPLICA", change[0].format(change[1]), "START REPLICA"):
            replica.execute(sql)
        yield
    finally:
        for sql in ("STOP REPLICA", change[0].format(change[2]), "START REPLICA"):
            replica.execute(sql)


def another_sql_mode_by_default(case: Case) -> Any:
    case.options["sql_mode"] = "ANSI"  # every connection sets it
    return on_replica("sql_mode", "''")(case)


def many_pools(case: Case) -> None:
    case.kind = PooledReplicatedDatabase
    case.options["max_connections"] = 20
    case.processes = 1000


ALL = ("primary", "replica-1", "replica-2")
# What is made wrong, and which findings there are on which nodes.
CASES: dict[str, tuple[Setup, list[tuple[str, str]]]] = {
    "right": (lambda case: None, []),
    "wrong password": (with_options(password="wrong"), [("login", node) for node in ALL]),
    "no such user": (with_options(user="nobody"), [("login", node) for node in ALL]),
    "no such schema": (with_options(database="nowhere", user="admin"), [("schema", node) for node in ALL]),
    "no right to the schema": (without_schema_right, [("schema", node) for node in ALL]),
    "nothing listens": (unreachable, [("unreachable", "replica-2")]),
    "nothing listens for the primary": (primary_unreachable, [("unreachable", "primary")]),
    "may not see replication": (with_options(user="app"), [("replication-hidden", node) for node in ALL]),
    "may write anywhere": (
        with_options(user="admin"),
        [("writes-on-replica", "replica-1"), ("writes-on-replica", "replica-2")],
    ),
    "a replica takes writes": (on_replica("read_only", "OFF"), [("read-only", "replica-1")]),
    "host leads to a replica": (leads_to_a_replica, [("host-is-replica", "primary")]),
    "a primary takes no writes": (read_only_primary, [("primary-read-only", "primary")]),
    "a replica under two names": (listed_twice, [("same-server", "twin")]),
    "the primary as a replica": (primary_by_another_name, [("same-server", "other")]),
    "nothing is applied": (not_applying, [("replication-stopped", "replica-1")]),
    "nothing is received": (not_receiving, [("replication-stopped", "replica-1")]),
    "far behind": (far_behind, [("lagging", "replica-1")]),
    "by file and offset": (by_file_and_offset, [("replicates-without-gtids", "replica-1")]),
    "another sql_mode": (on_replica("sql_mode", "''"), [("settings-differ", "replica-1")]),
    "another sql_mode by default": (another_sql_mode_by_default, []),
    "another time zone": (on_replica("time_zone", "'+05:00'"), [("settings-differ", "replica-1")]),
    "another collation": (on_replica("collation_server", "latin1_bin"), [("settings-differ", "replica-1")]),
    "pools that are too large": (many_pools, [("max-connections", node) for node in ALL]),
    "no replicas": (with_options(replicas=[]), [("no-replicas", "primary")]),
    "right again": (lambda case: None, []),
}


@contextmanager
def made(setup: Setup, case: Case) -> Iterator[None]:
    context = setup(case)
    if context is None:
        yield
    else:
        with context:
            yield


def test_each_wrong_set_up_is_found_and_nothing_is_invented(ours: LocalCluster) -> None:
    wrong = {}
    for name, (setup, expected) in CASES.items():
        case = Case(ours)
        case.options["database"] = ours.database_name
        with made(setup, case):
            found = case.found()
        if found != sorted(expected):
            wrong[name] = (found, sorted(expected))
        ours.sync()
    assert not wrong


def test_another_isolation_and_a_closed_server(ours: LocalCluster) -> None:
    """What the two servers call by different names, or only one of them has."""
    case = Case(ours)
    name = "transaction_isolation" if case.mysql else "tx_isolation"
    with set_globally(ours.replicas[0], name, "'READ-COMMITTED'"):
        assert case.found() == [("settings-differ", "replica-1")]
    if case.mysql:
        with set_globally(ours.replicas[1], "offline_mode", "ON"):
            assert case.found() == [("unreachable", "replica-2")]
            case.options["user"] = ours.admin_user
            assert ("unfit", "replica-2") in case.found()


def test_the_command_says_it(ours: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    replicas = "".join(f"&replica={node.host}:{node.port}" for node in ours.replicas)
    where = f"{ours.password}@{ours.primary.host}:{ours.primary.port}/{ours.database_name}?connect_timeout=10"
    assert main(["doctor", f"mysql+replicas://{USER}:{where}{replicas}"]) == OK
    assert capsys.readouterr().out == "nothing found\n"
    assert main(["doctor", f"mysql+replicas://{BLIND}:{where}{replicas}", "--json"]) == FOUND
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [finding["code"] for finding in findings] == ["replication-hidden"] * 3
    assert "GRANT" in findings[0]["remedy"]
    # The GRANT is ready to be used.
    ours.primary.execute(
        findings[0]["remedy"].splitlines()[0].removeprefix("on the primary: ").removesuffix(";")
    )
    ours.sync()
    assert main(["doctor", f"mysql+replicas://{BLIND}:{where}{replicas}"]) == OK
    assert main(["status", f"mysql+replicas://{BLIND}:{where}{replicas}", "--json"]) == OK
    capsys.readouterr()


def test_what_cannot_be_undone(server: str) -> None:
    """A replica with transactions of its own, and one that follows nobody."""
    with fit_cluster(server) as cluster:
        case = Case(cluster)
        first, second = cluster.replicas
        with set_globally(first, "read_only", "OFF"):
            first.execute(f"INSERT INTO {cluster.database_name}.mark VALUES (7)")
        until(lambda: case.found() == [("errant-transactions", "replica-1")])
        second.execute("STOP REPLICA")
        second.execute("RESET REPLICA ALL")
        assert case.found() == [("errant-transactions", "replica-1"), ("not-a-replica", "replica-2")]


@pytest.mark.parametrize("server", SERVERS)
def test_a_primary_without_gtids(server: str) -> None:
    options = {
        "mariadb": {"skip_log_bin": None},
        "mysql": {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"},
    }[server]
    with own_cluster(server, 0, options={"*": options}) as cluster:
        database = ReplicatedDatabase(**{**cluster.parameters("primary"), "user": cluster.admin_user})
        codes = [finding.code for finding in find_faults(survey(database, 20))]
        assert codes == ["gtids", "no-replicas"]
