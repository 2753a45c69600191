"""What `doctor` decides from answers that were collected: each fault alone, on answers that are else right.

The members of the kind are the codes of `cli.findings`; the last test compares the table with the source.
Those that real servers can show are made on them too, in `tests/servers/cli/test_doctor.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.node_answers import (
    SERVERS,
    answers,
    failed,
    granted,
    judged,
    told,
    with_settings,
    with_status,
    with_variables,
)

from peewee_replicas.cli import findings
from peewee_replicas.cli.answers import NodeAnswers, Survey
from peewee_replicas.cli.findings import find_faults
from peewee_replicas.nodes.interview import Channel, Source
from peewee_replicas.servers import mysql

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
    ("password", "both", "r", lambda n: failed(n, 0)._replace(lacks_password=True), "call the callable"),
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
