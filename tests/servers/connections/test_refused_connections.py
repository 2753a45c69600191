"""A connection that cannot be opened, for no fault of the node, leaves those that are open in use.

The members of the kind are the rows of `error_table.NOT_LET_IN` (rights, passwords, accounts, ways to
authenticate), 1129 and 1130 (this host is blocked, or unknown), TLS, the look-up of names, and the system's
errors of a process or machine that has run out of something (`error_meanings`). Here are all of the numbers,
given by what stands before the server; the password, the account, the rights and TLS on real servers; all of
the system's errors as the socket raises them, and the one for descriptors as the system itself does.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest
from support.clusters import administrator, own_cluster
from support.clusters.failing import LOGGER, first, opened, prepare, read, where
from support.forms.threads import in_thread
from support.proxies.saboteur import Saboteur
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.nodes import breaker
from peewee_replicas.servers.error_table import NOT_LET_IN
from peewee_replicas.servers.wire import dialing


@pytest.fixture
def ready(db: Any, cluster: Any) -> Any:
    """The shared cluster with one row in `item`."""
    db.execute_sql("INSERT INTO item (id, name, n) VALUES (1, 'one', 0)")
    cluster.sync()
    return cluster


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Clusters of this module, whose accounts tests may change; each test puts them back."""
    clusters: dict[str, Any] = {}
    yield clusters
    for cluster in clusters.values():
        cluster.stop()


@pytest.fixture
def guarded(server: str, own: dict[str, Any]) -> Any:
    if server not in own:
        cluster = own_cluster(server)
        cluster.start()
        own[server] = cluster
        prepare(cluster)
    return own[server]


def round_robin_read(database: Any) -> str:
    """Read from both replicas in turn; the node that served the last read."""
    assert read(database) == "one"
    return str(database.events[-1].node)


def has_both(database: Any) -> None:
    assert {round_robin_read(database) for _ in range(4)} == {"replica-1", "replica-2"}


def elsewhere(database: Any) -> tuple[str, str]:
    """The node that a thread without connections reads from, and why it went there."""

    def work() -> tuple[str, str]:
        with database.connection_context():
            read(database)
            event = database.events[-1]
            return event.node, event.reason

    found: tuple[str, str] = in_thread(work)
    return found


def keeps(database: Any, caplog: pytest.LogCaptureFixture, *words: str, prefix: str) -> None:
    """A thread that needs a new connection goes to the primary; this one reads on from its replicas."""
    with caplog.at_level(logging.WARNING, LOGGER):
        node, reason = elsewhere(database)
    assert node == "primary"
    for word in (*words, prefix):
        assert word in reason
    assert [replica.state for replica in database.replicas] == ["up", "up"]
    assert not any("ejected" in record.message for record in caplog.records)
    told = [record.message for record in caplog.records if "no new connections" in record.message]
    assert len(told) == 2
    assert all(prefix in text for text in told)
    has_both(database)


@contextmanager
def in_use(cluster: Any, cls: Any = None, **options: Any) -> Iterator[Any]:
    """A database whose thread has connections to both replicas."""
    with opened(cluster, cls, policy="round-robin", **options) as database:
        has_both(database)
        yield database


@contextmanager
def changed(cluster: Any, *statements: str, back: tuple[str, ...]) -> Iterator[None]:
    """An administrator does this on both replicas, not on the primary."""

    def do(sqls: tuple[str, ...]) -> None:
        for node in cluster.replicas:
            # Over the socket, which a server that wants TLS lets in without.
            socket_path = str(node.datadir.parent / "socket")
            with administrator(cluster, node, unix_socket=socket_path) as admin:
                for sql in sqls:
                    admin.cursor().execute(sql)

    try:
        do(statements)
        yield
    finally:
        do(back)


# On real servers


def changes(cluster: Any) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]:
    """What an administrator does, what puts it back, and the number of the refusal."""
    password = cluster.password
    mysql = cluster.server == "mysql"
    return {
        "password": (
            ("ALTER USER app@'%' IDENTIFIED BY 'another'",),
            (f"ALTER USER app@'%' IDENTIFIED BY '{password}'",),
            "1045",
        ),
        "account": (
            ("ALTER USER app@'%' ACCOUNT LOCK",),
            ("ALTER USER app@'%' ACCOUNT UNLOCK",),
            "3118" if mysql else "4151",
        ),
        "expired": (
            ("ALTER USER app@'%' PASSWORD EXPIRE",),
            (f"ALTER USER app@'%' IDENTIFIED BY '{password}'",),
            "1862" if mysql else "1820",
        ),
        "TLS": (
            ("SET GLOBAL require_secure_transport = ON",),
            ("SET GLOBAL require_secure_transport = OFF",),
            "3159" if mysql else "1045",
        ),
    }


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
@pytest.mark.parametrize("what", ["password", "account", "expired", "TLS"])
def test_whom_the_server_lets_in_no_more_reads_on_over_open_connections(
    guarded: Any, what: str, cls: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "SHORTEST_BACKOFF", 0.01)
    monkeypatch.setattr(breaker, "LONGEST_BACKOFF", 0.02)
    change, back, number = changes(guarded)[what]
    with in_use(guarded, cls, ssl_disabled=True) as database:
        with changed(guarded, *change, back=back):
            keeps(database, caplog, number, prefix="configuration: ")
        until(lambda: elsewhere(database)[0] != "primary")  # by itself, once it is let in again
        assert database.stats()["replica-1.ejections"] == 0


def test_a_right_on_the_schema_that_was_taken_away_is_configuration_for_new_connections(
    guarded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    schema = guarded.database_name
    take, give = f"REVOKE ALL ON `{schema}`.* FROM app@'%'", f"GRANT ALL ON `{schema}`.* TO app@'%'"
    with in_use(guarded) as database, changed(guarded, take, back=(give,)):
        with caplog.at_level(logging.WARNING, LOGGER):
            assert elsewhere(database)[0] == "primary"
        assert [replica.state for replica in database.replicas] == ["up", "up"]
        # On MySQL an open connection has lost the right, too; then the primary serves the read.
        assert read(database) == "one"


@pytest.mark.parametrize("probe_interval", [None, 0.05])
def test_a_node_whose_connections_have_all_gone_leaves_the_rotation(
    guarded: Any, probe_interval: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.05)
    change, back, _ = changes(guarded)["password"]
    with in_use(guarded, probe_interval=probe_interval) as database:
        with changed(guarded, *change, back=back):
            database.close()
            assert elsewhere(database)[0] == "primary"
            until(lambda: [replica.state for replica in database.replicas] == ["ejected"] * 2)
            assert "configuration: " in database.replicas[0].cause
            ejections = database.stats()["replica-1.ejections"]
            for _ in range(20):
                assert round_robin_read(database) == "primary"
            # The prober's own connection, which it still has, does not bring the node back each time.
            assert database.stats()["replica-1.ejections"] == ejections
        until(lambda: round_robin_read(database) != "primary")


# Every number


@pytest.mark.parametrize("number", sorted({row.number for row in NOT_LET_IN} | {1129, 1130, 1820}))
def test_every_number_that_refuses_a_client_leaves_open_connections_in_use(
    ready: Any, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    row = next((row for row in NOT_LET_IN if row.number == number), None)
    if row is not None and row.server not in (None, ready.server):
        pytest.skip("the other server's")
    with Saboteur(ready.replicas[0].port) as one, Saboteur(ready.replicas[1].port) as two:
        gates = (one, two)
        replicas = [where(node, port=gate.port) for node, gate in zip(ready.replicas, gates, strict=True)]
        with in_use(ready, replicas=replicas, ssl_disabled=True) as database:
            for gate in gates:
                gate.refuse(number)
            keeps(database, caplog, str(number), prefix="configuration: ")
            assert [gate.refused for gate in gates] == [1, 1]


def test_a_schema_that_has_not_arrived_sends_a_read_elsewhere_and_blames_no_node(ready: Any) -> None:
    with Saboteur(ready.replicas[0].port) as one, Saboteur(ready.replicas[1].port) as two:
        gates = (one, two)
        replicas = [where(node, port=gate.port) for node, gate in zip(ready.replicas, gates, strict=True)]
        with in_use(ready, replicas=replicas, ssl_disabled=True) as database:
            for gate in gates:
                gate.refuse(1049, "Unknown database")
            node, reason = elsewhere(database)
            assert node == "primary"
            assert "1049" in reason
            assert [replica.state for replica in database.replicas] == ["up", "up"]
            has_both(database)


@pytest.mark.parametrize("number", [1115, 1273])
def test_a_server_that_no_longer_knows_the_character_set_sends_a_read_elsewhere(
    ready: Any, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """MySQL answers so for a moment while it shuts down."""
    with Saboteur(ready.replicas[0].port) as one, Saboteur(ready.replicas[1].port) as two:
        gates = (one, two)
        replicas = [where(node, port=gate.port) for node, gate in zip(ready.replicas, gates, strict=True)]
        with in_use(ready, replicas=replicas, ssl_disabled=True) as database:
            for gate in gates:
                gate.answer("SET NAMES", number)  # with the library's own settings,
                gate.answer("SET NAMES", number)  # and once more without them
            keeps(database, caplog, str(number), prefix="configuration: ")


# What the system says


SYSTEM = [
    *(OSError(number, "words") for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)),
    *(OSError(number, "words") for number in (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EAGAIN)),
    OSError(errno.EPERM, "words"),
    socket.gaierror(socket.EAI_AGAIN, "words"),
    socket.gaierror(socket.EAI_NONAME, "words"),
    ssl.SSLError(1, "words"),
]


@pytest.mark.parametrize("failure", SYSTEM, ids=repr)
def test_what_the_system_cannot_give_leaves_open_connections_in_use(
    ready: Any, failure: OSError, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, open_tcp = ready.primary.port, dialing.open_tcp

    def scarce(host: str, port: int, *given: Any) -> Any:
        if port == primary:
            return open_tcp(host, port, *given)
        raise type(failure)(*failure.args)

    with in_use(ready) as database:
        monkeypatch.setattr(dialing, "open_tcp", scarce)
        exhausted = not isinstance(failure, (socket.gaierror, ssl.SSLError, PermissionError))
        prefix = "no fault of the node: " if exhausted else "configuration: "
        keeps(database, caplog, "2003", prefix=prefix)


def test_a_certificate_that_is_not_there_sends_a_read_elsewhere(ready: Any, tmp_path: Any) -> None:
    """PyMySQL raises what the file system said, as an error that has nothing to do with databases."""
    missing = {"ssl": {"ca": str(tmp_path / "none.pem")}}
    with opened(ready, of_first=missing, policy=first) as database:
        assert read(database) == "one"
        assert database.events[-1].node == "replica-2"
        assert database.replicas[0].state == "ejected"
        assert "configuration: check the ssl_* arguments" in database.replicas[0].cause


PROGRAM = """
    import os, resource, sys, threading
    from peewee import OperationalError
    from peewee_replicas import ReplicatedDatabase

    database = ReplicatedDatabase(**{parameters!r})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    nodes = []
    database.route_hooks.append(lambda event: nodes.append(event.node))

    def read():
        database.execute_sql("SELECT COUNT(*) FROM item").fetchall()
        return nodes[-1]

    def in_thread(work):
        found = []
        def run():
            try:
                with database.connection_context():
                    found.append(work())
            except OperationalError as exc:
                found.append(str(exc))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return found[0]

    mine = {{read() for _ in range(6)}}
    # No descriptor is left, and none that somebody frees meanwhile.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
    print(in_thread(read))
    print({{read() for _ in range(6)}} == mine == {{"replica-1", "replica-2"}})
    print([replica.state for replica in database.replicas])
    for one in held:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    stop = threading.Event()
    for _ in range(100):
        if in_thread(read) in ("replica-1", "replica-2"):
            break
        stop.wait(0.1)
    else:
        print("no replica again")
    print([database.stats()[f"{{replica.name}}.ejections"] for replica in database.replicas])
    database.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the program looks at its descriptors in /proc")
@pytest.mark.parametrize("probe_interval", [None, 0.2])
def test_a_process_without_descriptors_reads_on_over_open_connections(
    ready: Any, probe_interval: Any
) -> None:
    parameters = ready.parameters(ready.primary)
    parameters |= {
        "replicas": [where(node) for node in ready.replicas],
        "consistency": "eventual",
        "probe_interval": probe_interval,
    }
    program = textwrap.dedent(PROGRAM).format(parameters=parameters)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused, reads_on, states, ejections = done.stdout.splitlines()
    assert "no fault of the node: this process has as many files and sockets open as it may" in refused
    assert (reads_on, states, ejections) == ("True", "['up', 'up']", "[0, 0]")


def test_a_thread_without_connections_is_told_whose_fault_it_is_where_no_node_can_be_had(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with in_use(ready) as database:
        monkeypatch.setattr(dialing, "open_tcp", none)
        with pytest.raises(peewee.OperationalError, match="no fault of the node: this process") as caught:
            elsewhere(database)
        assert caught.value.args[0] == 2003
        has_both(database)
