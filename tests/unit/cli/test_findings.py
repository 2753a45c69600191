"""What `doctor` decides from answers that were collected: each fault alone, on answers that are else right.

The members of the kind are the codes of `cli.findings`; the last test compares the table with the source.
Those that real servers can show are made on them too, in `tests/servers/cli/test_doctor.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from peewee_replicas.cli import findings
from peewee_replicas.cli.answers import NodeAnswers, Survey
from peewee_replicas.cli.findings import find_faults
from peewee_replicas.nodes.fitness import Fitness
from peewee_replicas.nodes.interview import Channel, Facts, Source
from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.servers.identity import ServerIdentity

SERVERS = {"mysql": mysql, "mariadb": mariadb}
UP = Fitness("up", "", "replica", 0.0)
SETTINGS = {
    "sql_mode": "STRICT_TRANS_TABLES",
    "time_zone": "SYSTEM",
    "system_time_zone": "UTC",
    "transaction_isolation": "REPEATABLE-READ",
    "collation_server": "utf8mb4_general_ci",
}


def answers(server: str, *, primary: bool = False) -> NodeAnswers:
    """The answers of a node that is set up right."""
    facts = Facts(
        server=ServerIdentity("", "1" if primary else "2", "h", "3306"),
        read_only=not primary,
        offline=False,
        member=False,
        position=None,
        sample=None,
        channels=() if primary else (Channel(True, True, 0.0, "", Source("p", "3306")),),
        beats=None,
        variables={},
        dialect=SERVERS[server],
    )
    return NodeAnswers(
        name="primary" if primary else "r",
        address="db:3306",
        host="db",
        user="app",
        database="shop",
        is_primary=primary,
        version="8.4.5" if server == "mysql" else "10.11.6-MariaDB",
        facts=facts,
        fitness=Fitness("up", "", "primary", 0.0) if primary else UP,
        channels=[] if primary else [{"Using_Gtid": "Slave_Pos", "Auto_Position": "1"}],
        variables={"gtid_mode": "ON", "log_bin": "ON", "max_connections": "151", "super_read_only": "OFF"},
        session=SETTINGS,
        status={"threads_connected": "3", "ssl_cipher": "TLS_AES_256_GCM_SHA384"},
        account="app@%",
        grants=("GRANT REPLICATION CLIENT, SLAVE MONITOR ON *.* TO `app`@`%`",),
    )


def told(node: NodeAnswers, **changed: Any) -> NodeAnswers:
    assert node.facts is not None
    return node._replace(facts=node.facts._replace(**changed))


def judged(node: NodeAnswers, state: Any, cause: str, role: Any = "replica", remark: str = "") -> NodeAnswers:
    return node._replace(fitness=Fitness(state, cause, role, 0.0, remark))


def failed(node: NodeAnswers, number: int) -> NodeAnswers:
    return node._replace(error=f"({number}, 'no')", number=number, facts=None, fitness=None, account="")


def with_status(node: NodeAnswers, **changed: str) -> NodeAnswers:
    return node._replace(status={**node.status, **changed})


def with_settings(node: NodeAnswers, **changed: str) -> NodeAnswers:
    return node._replace(session={**node.session, **changed})


def with_variables(node: NodeAnswers, **changed: str) -> NodeAnswers:
    return node._replace(variables={**node.variables, **changed})


def granted(node: NodeAnswers, *grants: str) -> NodeAnswers:
    return node._replace(grants=grants)


STOPPED = "replication is stopped, nothing is applied: error 1062"
OWN = "has transactions of its own that the primary does not have (0-2-7): it was written to"
TWIN = "is the same server as other (h:1), which is listed too: it gets the reads of both"

# Code, servers, which node, what is wrong with it, and words of the remedy.
TABLE: list[tuple[str, str, str, Any, str]] = [
    ("login", "both", "r", lambda n: failed(n, 1045), "CREATE USER 'app'@'%'"),
    ("login", "both", "primary", lambda n: failed(n, 1130), "CREATE USER 'app'@'%'"),
    ("schema", "both", "r", lambda n: failed(n, 1044), "GRANT ALL PRIVILEGES ON `shop`.* TO 'app'@'%';"),
    ("schema", "both", "primary", lambda n: failed(n, 1049), "CREATE DATABASE `shop`;"),
    ("schema", "both", "r", lambda n: failed(n, 1049), "replicate_do_db"),
    ("unreachable", "both", "r", lambda n: failed(n, 2003), "is db:3306 right"),
    ("tls", "both", "r", lambda n: failed(n, 2026), "ssl="),
    ("tls", "both", "r", lambda n: with_status(n, ssl_cipher=""), "REQUIRE SSL"),
    ("host-is-replica", "both", "primary", None, "point `host` to s:1"),
    ("primary-read-only", "both", "primary", lambda n: told(n, read_only=True), "SET GLOBAL read_only = OFF"),
    ("same-server", "both", "r", lambda n: judged(n, "up", "", "primary"), "list the primary"),
    (
        "same-server", "both", "r",
        lambda n: judged(told(n, read_only=False), "up", "", "primary"), "list the primary",
    ),
    ("same-server", "both", "r", lambda n: judged(n, "up", "", remark=TWIN), "once"),
    ("not-a-replica", "mysql", "r", lambda n: judged(n, "unfit", "x", "detached"), "START REPLICA;"),
    ("not-a-replica", "mariadb", "r", lambda n: judged(n, "unfit", "x", "detached"), "CHANGE MASTER TO"),
    ("replication-stopped", "mariadb", "r", lambda n: judged(n, "unfit", STOPPED), "START SLAVE;"),
    ("unfit", "mysql", "r", lambda n: judged(n, "unfit", "offline_mode is ON"), "offline_mode = OFF"),
    ("lagging", "both", "r", lambda n: judged(n, "lagging", "20 s behind"), "max_lag"),
    (
        "lagging", "mariadb", "r", lambda n: judged(told(n, channels=None), "lagging", "behind"),
        "SHOW SLAVE STATUS",
    ),
    ("errant-transactions", "both", "r", lambda n: judged(n, "up", "", remark=OWN), "build it anew"),
    ("gtids", "mysql", "primary", lambda n: with_variables(n, gtid_mode="OFF"), "gtid_mode = ON"),
    ("gtids", "mysql", "r", lambda n: with_variables(n, gtid_mode="OFF"), "enforce_gtid_consistency = ON"),
    ("gtids", "mariadb", "primary", lambda n: with_variables(n, log_bin="OFF"), "log_bin"),
    (
        "replicates-without-gtids", "mariadb", "r",
        lambda n: n._replace(channels=[{"Using_Gtid": "No"}]), "MASTER_USE_GTID = slave_pos",
    ),
    (
        "replicates-without-gtids", "mysql", "r",
        lambda n: n._replace(channels=[{"Auto_Position": 0}]), "SOURCE_AUTO_POSITION = 1",
    ),
    ("read-only", "mysql", "r", lambda n: told(n, read_only=False), "super_read_only = ON"),
    ("read-only", "mariadb", "r", lambda n: told(n, read_only=False), "SET GLOBAL read_only = ON"),
    (
        "replication-hidden", "mysql", "r",
        lambda n: granted(told(n, channels=None), "GRANT USAGE ON *.* TO x"),
        "GRANT REPLICATION CLIENT ON *.* TO 'app'@'%';",
    ),
    (
        "replication-hidden", "mariadb", "r", lambda n: told(n, channels=None)._replace(grants=()),
        "GRANT SLAVE MONITOR ON *.* TO 'app'@'%';",
    ),
    (
        "writes-on-replica", "mariadb", "r", lambda n: granted(n, "GRANT ALL PRIVILEGES ON *.* TO `app`@`%`"),
        "REVOKE ALL PRIVILEGES ON *.* FROM 'app'@'%';",
    ),
    (
        "writes-on-replica", "mariadb", "r",
        lambda n: granted(n, "GRANT READ_ONLY ADMIN ON *.* TO `app`@`%`"),
        "REVOKE READ_ONLY ADMIN ON",
    ),
    (
        "writes-on-replica", "mysql", "r",
        lambda n: granted(n, "GRANT SUPER ON *.* TO x", "GRANT CONNECTION_ADMIN ON *.* TO x"),
        "REVOKE SUPER, CONNECTION_ADMIN ON *.* FROM",
    ),
    ("trackers", "both", "primary", lambda n: n._replace(tracks=False), "proxy"),
    ("settings-differ", "both", "r", lambda n: with_settings(n, sql_mode=""), "sql_mode = 'STRICT"),
    ("settings-differ", "both", "r", lambda n: with_settings(n, time_zone="+05:00"), "default_time_zone"),
    ("settings-differ", "both", "r", lambda n: with_settings(n, system_time_zone="CET"), "one zone"),
    (
        "settings-differ", "both", "r", lambda n: with_settings(n, transaction_isolation="SERIALIZABLE"),
        "transaction_isolation = REPEATABLE-READ",
    ),
    ("settings-differ", "both", "r", lambda n: with_settings(n, collation_server="x"), "collation_server ="),
    ("versions", "mysql", "r", lambda n: n._replace(version="8.0.40"), "upgrade replicas before"),
    ("versions", "mariadb", "r", lambda n: told(n, dialect=mysql), "one kind"),
]  # fmt: skip

ROWS = [
    pytest.param(code, server, node, change, remedy, id=f"{number}-{code}-{server}")
    for number, (code, servers, node, change, remedy) in enumerate(TABLE)
    for server in (SERVERS if servers == "both" else (servers,))
]


def leads_to_a_replica(node: NodeAnswers) -> NodeAnswers:
    return told(node, read_only=True, channels=(Channel(True, True, 0.0, "", Source("s", "1")),))


@pytest.mark.parametrize(("code", "server", "node", "change", "remedy"), ROWS)
def test_a_fault_is_found_on_its_node_with_its_remedy(
    code: str, server: str, node: str, change: Any, remedy: str
) -> None:
    primary, replica = answers(server, primary=True), answers(server)
    change = change or leads_to_a_replica
    primary, replica = (change(each) if each.name == node else each for each in (primary, replica))
    found = find_faults(Survey(primary, (replica,)))
    assert [(each.code, each.node) for each in found] == [(code, node)]
    assert remedy in found[0].remedy
    assert found[0].cause


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_is_found_where_all_is_right(server: str) -> None:
    primary, replica = answers(server, primary=True), answers(server)
    right = [
        (primary, replica),
        (primary, told(replica, read_only=False, channels=None, member=True)),  # Galera
        (primary, with_status(replica._replace(host="127.0.0.1"), ssl_cipher="")),
        (primary, granted(replica, "GRANT ALL PRIVILEGES ON `shop`.* TO `app`@`%`")),
        (primary, told(replica, channels=None)._replace(grants=("GRANT REPLICATION CLIENT ON *.* TO x",))),
        (
            with_settings(primary, time_zone="+00:00"),
            with_settings(replica, time_zone="+00:00", system_time_zone="CET"),
        ),
        (primary, replica._replace(version="99.0.1")),
        (granted(primary, "GRANT ALL PRIVILEGES ON *.* TO `app`@`%`"), replica),
    ]
    if server == "mysql":
        admin = granted(replica, "GRANT SUPER ON *.* TO `app`@`%`")
        right.append((primary, with_variables(admin, super_read_only="ON")))
    else:
        right.append((primary, granted(replica, "GRANT SUPER ON *.* TO `app`@`%`")))
    for each in right:
        assert find_faults(Survey(each[0], (each[1],))) == []
    # The primary may be listed as a replica.
    assert find_faults(Survey(primary, (primary, replica))) == []


def test_pools_and_processes_are_multiplied() -> None:
    primary, replica = answers("mysql", primary=True), answers("mysql")
    found = Survey(primary, (replica,), pool=20)
    assert find_faults(found, 3) == []  # 3 * (2 * 20 + 1) = 123 of 151
    assert [(each.code, each.node) for each in find_faults(found, 4)] == [("max-connections", "primary")]
    (mine, theirs) = find_faults(found, 8)
    assert (mine.node, theirs.node) == ("primary", "r")
    assert "8 processes may open 328 connections" in mine.cause
    assert "max_connections = 492" in mine.remedy


def test_a_database_without_replicas_is_said() -> None:
    found = find_faults(Survey(answers("mysql", primary=True), ()))
    assert [each.code for each in found] == ["no-replicas"]


def test_a_callable_that_named_no_replicas_is_said_with_its_reason() -> None:
    primary, replica = answers("mysql", primary=True), answers("mysql")
    for replicas in ((), (replica,)):
        (found,) = find_faults(Survey(primary, replicas, undiscovered="gaierror: no such name"))
        assert (found.code, "gaierror: no such name" in found.cause) == ("discovery", True)


def test_every_code_is_in_the_table() -> None:
    source = Path(findings.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'Finding\(\s*"([a-z-]+)"', source))
    assert codes == {row[0] for row in TABLE} | {"max-connections", "no-replicas", "discovery"}
