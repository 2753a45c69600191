"""A replica serves reads only while it follows this primary; what else is odd about whom it follows is said.

The members of the kind are the ways in which a node that answers, replicates and reports no lag can still be
the wrong one. They were found by going through all that `SHOW REPLICA STATUS` and the identity of a server
tell: a replica of another primary, with and without the privilege to see it; one that was not pointed at the
new primary after a failover; chains, through a listed node, through one that is not listed, and through a
replica of another primary; channels of several sources; transactions of its own; one server under two names;
`host` that leads to a replica. Both clusters give their primaries the server id 1, as many installations do.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support import waiting
from support.clusters import SERVERS, own_cluster
from support.clusters.repaired import repaired
from support.databases.nodes import nodes_of
from support.proxies.relay import Relay

from peewee_replicas import PrimaryReadOnly

until = functools.partial(waiting.until, seconds=30.0)

READ = "SELECT who FROM mark ORDER BY who"
FOLLOW = {
    "mariadb": "CHANGE MASTER {name} TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='{user}', "
    "MASTER_PASSWORD='{password}', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos",
    "mysql": "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='{user}', "
    "SOURCE_PASSWORD='{password}', SOURCE_CONNECT_RETRY=1, SOURCE_AUTO_POSITION=1, "
    "GET_SOURCE_PUBLIC_KEY=1 {name}",
}


@pytest.fixture(scope="module", params=SERVERS)
def clusters(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two clusters that have nothing to do with each other, and the same table in both."""
    with own_cluster(request.param, replicas=2) as ours, own_cluster(request.param, replicas=1) as theirs:
        for cluster, word in ((ours, "ours"), (theirs, "theirs")):
            cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.mark (who VARCHAR(20))")
            cluster.primary.execute(f"INSERT INTO {cluster.database_name}.mark VALUES ('{word}')")
            cluster.sync()
        yield ours, theirs


def point(node: Any, cluster: Any, source: Any, *, name: str = "", start: bool = True) -> None:
    """Let a node follow another one of its cluster."""
    mysql = cluster.server == "mysql"
    channel = f"FOR CHANNEL '{name}'" if name and mysql else f"'{name}'" if name else ""
    if not name:
        node.execute("STOP REPLICA")
    node.execute(
        FOLLOW[cluster.server].format(
            host=source.host,
            port=source.port,
            user=cluster.admin_user,
            password=cluster.password,
            name=channel,
        )
    )
    if start:
        node.execute("START REPLICA")


def at(cluster: Any, node: Any, **more: Any) -> dict[str, Any]:
    """What a database is given to reach a node, whichever cluster it is of."""
    return {**cluster.parameters(node), "name": f"{node.name}-{node.port}", **more}


def opened(ours: Any, replicas: list[dict[str, Any]], told: list[Any] | None = None, **options: Any) -> Any:
    database = ours.database(
        replicas=replicas, user=ours.admin_user, consistency="eventual", **{"probe_interval": 0.1, **options}
    )
    if told is not None:
        database.node_hooks.append(told.append)
    database.execute_sql(READ)
    assert database._parts.cluster.prober.looked.wait(30)
    return database


def used(database: Any, condition: Any) -> None:
    """Use the database until the condition holds; what it reads is ours, always."""
    until(lambda: database.execute_sql(READ).fetchone() == ("ours",) and condition())


def settled(database: Any, rounds: int = 3) -> None:
    """Wait until each node has been looked at a few times more."""
    for node in nodes_of(database):
        seen: list[int] = []
        probed = node.probed

        def note(*given: Any, probed: Any = probed, seen: list[int] = seen) -> None:
            probed(*given)
            seen.append(1)

        node.probed = note
        until(lambda seen=seen: database.execute_sql(READ) and len(seen) >= rounds)
        node.probed = probed


def cause(database: Any, place: int = 0) -> str:
    return str(database.replicas[place].cause)


def test_a_replica_of_another_primary_serves_nothing(clusters: Any) -> None:
    ours, theirs = clusters
    stray = at(theirs, theirs.replicas[0], user=theirs.admin_user)
    database = opened(ours, [stray, at(ours, ours.replicas[0], user=ours.admin_user)])
    used(database, lambda: database.replicas[0].state == "unfit")
    assert database.replicas[0].role == "detached"
    for port in (ours.primary.port, theirs.primary.port):
        assert str(port) in cause(database)
    assert database.replicas[1].state == "up"
    for writing in (theirs, ours):  # be it ahead of our primary or behind
        for _ in range(5):
            writing.primary.execute(f"INSERT INTO {writing.database_name}.mark VALUES ('z')")
        writing.sync()
        settled(database)
        assert database.replicas[0].state == "unfit"
        assert database.replicas[1].state == "up"
        writing.primary.execute(f"DELETE FROM {writing.database_name}.mark WHERE who = 'z'")
        writing.sync()
    database.dispose()


@pytest.mark.parametrize("ahead", [True, False])
def test_without_the_privilege_it_serves_nothing_either(clusters: Any, ahead: bool) -> None:
    ours, theirs = clusters
    writing = theirs if ahead else ours
    # Never as many in both, or MariaDB's numbers would be the same by chance.
    for _ in range(150 if ahead else 50):
        writing.primary.execute(f"INSERT INTO {writing.database_name}.mark VALUES ('z')")
    writing.primary.execute(f"DELETE FROM {writing.database_name}.mark WHERE who = 'z'")
    writing.sync()
    database = opened(ours, [at(theirs, theirs.replicas[0]), at(ours, ours.replicas[0], user=ours.user)])
    used(database, lambda: database.replicas[0].state in ("unfit", "lagging"))
    settled(database)
    assert database.replicas[0].state in ("unfit", "lagging")
    assert database.replicas[1].state == "up"
    database.dispose()


def test_chains(clusters: Any) -> None:
    ours, _ = clusters
    middle, leaf = ours.replicas
    options = {"user": ours.admin_user}
    point(leaf, ours, middle)
    try:
        listed = opened(ours, [at(ours, middle, **options), at(ours, leaf, **options)])
        used(listed, lambda: [node.state for node in listed.replicas] == ["up", "up"])
        alone = opened(ours, [at(ours, leaf, **options)])
        ours.primary.execute(f"INSERT INTO {ours.database_name}.mark VALUES ('z')")
        ours.sync()
        used(alone, lambda: alone.replicas[0].state == "up")
        settled(listed)
        assert [node.state for node in listed.replicas] == ["up", "up"]
        for database in (listed, alone):
            database.dispose()
    finally:
        point(leaf, ours, ours.primary)
        ours.primary.execute(f"DELETE FROM {ours.database_name}.mark WHERE who = 'z'")
        ours.sync()


def test_one_that_was_not_pointed_at_the_new_primary_serves_nothing(
    request: pytest.FixtureRequest, clusters: Any
) -> None:
    """And nothing of what the old one, which lives on, still takes."""
    kind = clusters[0].server
    with repaired(kind, 3, [], spoils=True) as cluster:
        promoted, pointed, forgotten = cluster.replicas
        cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.mark (who VARCHAR(20))")
        cluster.primary.execute(f"INSERT INTO {cluster.database_name}.mark VALUES ('ours')")
        cluster.sync()
        promoted.execute("STOP REPLICA")
        promoted.execute("RESET REPLICA ALL")
        promoted.execute("SET GLOBAL read_only = OFF")
        point(pointed, cluster, promoted)
        nodes = [at(cluster, node, user=cluster.admin_user) for node in (pointed, forgotten)]
        database = cluster.database(
            host=promoted.host, port=promoted.port, replicas=nodes, user=cluster.admin_user,
            consistency="eventual", probe_interval=0.1,
        )  # fmt: skip
        used(database, lambda: database.replicas[1].state == "unfit")
        settled(database)
        for port in (cluster.primary.port, promoted.port):
            assert str(port) in cause(database, 1)
        assert database.replicas[0].state == "up"
        cluster.primary.execute(f"UPDATE {cluster.database_name}.mark SET who = 'theirs'")
        settled(database)
        assert database.execute_sql(READ).fetchall() == (("ours",),)
        assert [node.state for node in database.replicas] == ["up", "unfit"]
        point(forgotten, cluster, promoted, start=False)  # as an operator does it next
        forgotten.execute("STOP REPLICA")
        database.dispose()


def test_a_chain_below_another_primary_serves_nothing(clusters: Any) -> None:
    ours, theirs = clusters
    nodes = [at(theirs, node, user=theirs.admin_user) for node in (theirs.primary, theirs.replicas[0])]
    database = opened(ours, nodes)
    used(database, lambda: [node.state for node in database.replicas] == ["unfit", "unfit"])
    assert "replicates from nobody" in cause(database, 0)
    assert str(theirs.primary.port) in cause(database, 1)
    database.dispose()


def test_a_channel_that_has_nothing_to_do_with_the_primary_harms_nobody(clusters: Any) -> None:
    ours, theirs = clusters
    node = ours.replicas[0]
    mysql = ours.server == "mysql"
    point(node, theirs, theirs.primary, name="reports", start=False)
    database = opened(ours, [at(ours, node, user=ours.admin_user)])
    try:
        used(database, lambda: database.replicas[0].state == "up")
        settled(database)
        assert database.replicas[0].state == "up"
        assert database.replicas[0].lag is not None
        node.execute("STOP REPLICA SQL_THREAD FOR CHANNEL ''" if mysql else "STOP SLAVE '' SQL_THREAD")
        used(database, lambda: database.replicas[0].state == "unfit")
        assert f"stopped (the channel from 127.0.0.1:{ours.primary.port})" in cause(database)
        node.execute("START REPLICA SQL_THREAD FOR CHANNEL ''" if mysql else "START SLAVE '' SQL_THREAD")
        used(database, lambda: database.replicas[0].state == "up")
    finally:
        node.execute("RESET REPLICA ALL FOR CHANNEL 'reports'" if mysql else "RESET SLAVE 'reports' ALL")
        database.dispose()


@pytest.mark.parametrize("running", [True, False])
def test_a_stopped_foreign_channel_harms_nobody_while_the_primary_is_away(
    clusters: Any, running: bool
) -> None:
    """A database that begins then knows the primary by its address alone."""
    ours, theirs = clusters
    node = ours.replicas[0]
    mysql = ours.server == "mysql"
    point(node, theirs, theirs.primary, name="reports", start=False)
    ours.primary.pause()
    database = ours.database(
        replicas=[at(ours, node, user=ours.admin_user)], user=ours.admin_user, consistency="eventual",
        probe_interval=0.1, connect_timeout=1,
    )  # fmt: skip
    try:
        if not running:
            node.execute("STOP REPLICA SQL_THREAD FOR CHANNEL ''" if mysql else "STOP SLAVE '' SQL_THREAD")
        with database.readonly():
            assert database.execute_sql(READ).fetchone() == ("ours",)
        until(lambda: nodes_of(database)[0].role is not None)
        assert (database.replicas[0].state == "up") == running
    finally:
        ours.primary.resume()
        node.execute("START REPLICA SQL_THREAD FOR CHANNEL ''" if mysql else "START SLAVE '' SQL_THREAD")
        node.execute("RESET REPLICA ALL FOR CHANNEL 'reports'" if mysql else "RESET SLAVE 'reports' ALL")
        database.dispose()


def test_a_replica_whose_sources_share_a_gtid_domain_serves_nothing() -> None:
    """MariaDB compares sequence numbers only, so the other source's writes would count as the primary's."""
    options = {"*": {"gtid_strict_mode": False}}  # in strict mode one of the channels would stop
    with (
        own_cluster("mariadb", replicas=1, options=options) as ours,
        own_cluster("mariadb", replicas=0, options=options) as theirs,
    ):
        node, source = ours.replicas[0], theirs.primary
        ours.primary.execute(f"CREATE TABLE {ours.database_name}.mark (who VARCHAR(20))")
        ours.primary.execute(f"INSERT INTO {ours.database_name}.mark VALUES ('ours')")
        ours.sync()
        source.execute("SET GLOBAL server_id = 77")
        log, place = source.execute("SHOW MASTER STATUS")[0][:2]
        node.execute(
            f"CHANGE MASTER 'reports' TO MASTER_HOST='127.0.0.1', MASTER_PORT={source.port}, "
            f"MASTER_USER='{theirs.admin_user}', MASTER_PASSWORD='{theirs.password}', "
            f"MASTER_LOG_FILE='{log}', MASTER_LOG_POS={place}, MASTER_USE_GTID=no"
        )
        node.execute("START SLAVE 'reports'")
        database = opened(ours, [at(ours, node, user=ours.admin_user)])
        used(database, lambda: database.replicas[0].state == "up")
        source.execute("CREATE DATABASE elsewhere")
        source.execute("SET STATEMENT gtid_seq_no = 100000 FOR CREATE TABLE elsewhere.t (n INT)")
        used(database, lambda: database.replicas[0].state == "unfit")
        assert "gtid_domain_id" in cause(database)
        for _ in range(3):  # its position goes back with each write of ours
            ours.primary.execute(f"INSERT INTO {ours.database_name}.mark VALUES ('z')")
            settled(database)
            assert database.replicas[0].state == "unfit"
        database.dispose()


@pytest.mark.parametrize("server", SERVERS)
def test_transactions_of_its_own_are_said_once(server: str, caplog: pytest.LogCaptureFixture) -> None:
    with repaired(server, 1, [], spoils=True) as cluster:
        cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.mark (who VARCHAR(20))")
        cluster.primary.execute(f"INSERT INTO {cluster.database_name}.mark VALUES ('ours')")
        cluster.sync()
        node = cluster.replicas[0]
        for user in (cluster.admin_user, cluster.user):
            database = opened(cluster, [at(cluster, node, user=user)])
            with caplog.at_level(logging.WARNING, "peewee.replicas"):
                for number in range(3):
                    node.execute(f"CREATE TABLE {cluster.database_name}.own_{user}_{number} (n INT)")
                    settled(database)
                used(database, lambda: "transactions of its own" in caplog.text)
            assert caplog.text.count("transactions of its own") == 1
            assert database.replicas[0].state == "up"
            database.dispose()
            caplog.clear()


def test_one_server_under_two_names_is_noticed(clusters: Any, caplog: pytest.LogCaptureFixture) -> None:
    ours, _ = clusters
    node = ours.replicas[0]
    with Relay(node.port) as relay, caplog.at_level(logging.WARNING, "peewee.replicas"):
        twin = {**at(ours, node, user=ours.admin_user), "name": "twin", "port": relay.port}
        database = opened(ours, [at(ours, node, user=ours.admin_user), twin])
        used(database, lambda: "same server" in caplog.text)
        (said,) = (text for text in caplog.messages if "same server" in text)
        assert "twin" in said.split("same server")[0]
        assert node.name in said.split("same server")[1]
        assert [one.state for one in database.replicas] == ["up", "up"]
        database.dispose()


def test_host_that_leads_to_a_replica_is_said(clusters: Any, caplog: pytest.LogCaptureFixture) -> None:
    ours, _ = clusters
    node, other = ours.replicas
    told: list[Any] = []
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        replicas = [at(ours, other, user=ours.admin_user)]
        database = opened(ours, replicas, told, host=node.host, port=node.port)
        used(database, lambda: "is a replica of" in caplog.text)
        settled(database)
    # It takes no writes, which is an event of the primary's.
    (event,) = [event for event in told if event.node == "primary"]
    assert (event.state, "is a replica of" in event.cause) == ("read_only", True)
    assert str(ours.primary.port) in next(text for text in caplog.messages if "is a replica of" in text)
    assert "read-only now" not in caplog.text
    assert database.replicas[0].state == "up"  # it is no worse than what `host` leads to
    database.dispose()


@pytest.mark.parametrize("probe_interval", [0.1, None])
def test_a_write_to_it_is_not_told_that_the_roles_have_changed(
    clusters: Any, probe_interval: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    ours, _ = clusters
    node = ours.replicas[0]
    node.execute("SET GLOBAL read_only = ON")
    database = ours.database(host=node.host, port=node.port, replicas=[], probe_interval=probe_interval)
    seen: list[str] = []
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        for _ in range(2):
            with pytest.raises(PrimaryReadOnly, match="read-only") as caught:
                database.execute_sql("INSERT INTO mark VALUES ('never')")
            seen.append(str(caught.value))
    assert "host may lead to a replica" in seen[0]
    assert caplog.text.count("so host may lead to a replica") == 1
    database.close()


@pytest.mark.parametrize("probe_interval", [0.1, None])
def test_one_that_took_writes_is(
    clusters: Any, probe_interval: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    ours, _ = clusters
    database = ours.database(probe_interval=probe_interval)
    states: list[str] = []
    database.node_hooks.append(lambda event: event.node == "primary" and states.append(event.state))
    database.execute_sql("UPDATE mark SET who = 'ours'")
    ours.primary.execute("SET GLOBAL read_only = ON")
    try:
        with (
            caplog.at_level(logging.WARNING, "peewee.replicas"),
            pytest.raises(PrimaryReadOnly, match="read-only now, so the roles have changed"),
        ):
            database.execute_sql("INSERT INTO mark VALUES ('never')")
        assert "is read-only now, so the roles have changed" in caplog.text
        assert states[:1] == ["read_only"]
        ours.primary.execute("SET GLOBAL read_only = OFF")
        database.execute_sql("UPDATE mark SET who = 'ours'")
        until(lambda: states[-1] == "up")
    finally:
        ours.primary.execute("SET GLOBAL read_only = OFF")
        database.close()
