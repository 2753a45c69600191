"""What the library asks and sets for itself never fails a user's statement, and never hangs it without end.

The members of the kind are the rows of the table in `docs/questions.md`. That list was made by following
every call of what sends something (`ask`, `run_setting`, `send_ahead`, `ping` and the others), and every
statement of the dialects; `tests/unit/connections/test_questions_page.py` holds the page to the source, and
this module to the page. Each packet is broken off (the connection ends), held (nothing more is said on the
connection) and delayed, by a relay that knows it by a part of its text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import peewee
import pytest
from pymysql.cursors import SSCursor
from support.clusters.lagging import MODELS, elsewhere, frozen
from support.databases.nodes import nodes_of
from support.proxies.saboteur import Saboteur
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.concurrency import Clock

pytestmark = pytest.mark.usefixtures("form")

CONNECT_SECONDS = 1.0
CATCH_UP_SECONDS = 0.3
SLACK = 4.0  # of a machine that has much else to do
FAULTS = ("break", "stop", "delay")
DELAY = 0.2
READ = "SELECT n FROM slot WHERE name = 'a'"
DUPLICATE = "INSERT INTO slot (name, n) VALUES ('a', 2)"
WRITE = "INSERT INTO mark (name) VALUES ('written')"


class Setup:
    """A primary and a replica, each behind a saboteur, and one of the faults."""

    def __init__(self, cluster: Any, fault: str, stack: ExitStack) -> None:
        self.cluster = cluster
        self.mysql = cluster.server == "mysql"
        self.fault = fault
        self.primary: Saboteur = stack.enter_context(Saboteur(cluster.primary.port))
        self.replica: Saboteur = stack.enter_context(Saboteur(cluster.replicas[0].port))
        self.stack = stack

    def database(self, cls: Any = None, **options: Any) -> Any:
        """A database over both, bound to the models; closed at the end."""
        usual: dict[str, Any] = {
            "port": self.primary.port,
            "replicas": [{"name": "replica-1", "port": self.replica.port}],
            # Only what is stopped has to wait that long, and a busy machine may need longer to connect.
            "connect_timeout": CONNECT_SECONDS if self.fault == "stop" else 5 * CONNECT_SECONDS,
            "catch_up_timeout": CATCH_UP_SECONDS,
            "ssl_disabled": True,
        }
        db = self.cluster.database(cls, **{**usual, **options})
        self.stack.enter_context(db.bind_ctx(MODELS))

        def close() -> None:
            while db.in_transaction():
                db.pop_transaction()
            db.close()

        self.stack.callback(close)
        return db

    def spoil(self, gate: Saboteur, marker: str, times: int = 1) -> None:
        """Have the next statement with this marker meet the fault."""
        for _ in range(times):
            if self.fault == "break":
                gate.cut(marker, "before")
            elif self.fault == "stop":
                gate.hold(marker)
            else:
                gate.delay(marker, DELAY)

    def spoiled(self) -> int:
        return self.primary.spoiled + self.replica.spoiled

    @property
    def wait(self) -> str:
        return "SELECT WAIT_FOR_EXECUTED_GTID_SET" if self.mysql else "SELECT MASTER_GTID_WAIT"

    @property
    def now(self) -> str:
        return "SELECT @@GLOBAL.gtid_owned" if self.mysql else "SELECT @@GLOBAL.gtid_binlog_pos"

    @property
    def history(self) -> str:
        return self.now if self.mysql else "SELECT @@GLOBAL.gtid_binlog_state"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done in the block takes no longer than that, beside what this machine adds."""
    began = Clock.monotonic()
    yield
    assert Clock.monotonic() - began < seconds + SLACK


def n_read(db: Any) -> int:
    return int(db.execute_sql(READ).fetchall()[0][0])


def written(setup: Setup) -> int:
    sql = f"SELECT COUNT(*) FROM {setup.cluster.database_name}.mark WHERE name = 'written'"
    return int(setup.cluster.primary.execute(sql)[0][0])


def owing(db: Any) -> None:
    """Have this thread owe a question about the primary's position."""
    with pytest.raises(peewee.IntegrityError):
        db.execute_sql(DUPLICATE)


# One function for each row, by its name: brings the question about, and says what has to come of it.


def settings_on_a_replica(setup: Setup) -> None:
    db = setup.database()
    setup.spoil(setup.replica, "session_track_state_change")
    with within(CONNECT_SECONDS):
        assert n_read(db) == 1


def settings_on_the_primary(setup: Setup) -> None:
    db = setup.database()
    setup.spoil(setup.primary, "session_track_state_change")
    with within(CONNECT_SECONDS):
        if setup.fault == "delay":
            db.execute_sql(WRITE)
        else:
            with pytest.raises(peewee.OperationalError):  # there is no connection, as with plain peewee
                db.execute_sql(WRITE)
            assert written(setup) == 0
            db.execute_sql(WRITE)
    assert written(setup) == 1


COMPARISON = "Variable_name IN ('sql_mode'"


def comparison_on_a_replica(setup: Setup) -> None:
    db = setup.database(fallback="error")
    setup.spoil(setup.replica, COMPARISON)
    with within(2.0):
        assert n_read(db) == 1


def comparison_on_the_primary(setup: Setup) -> None:
    db = setup.database()
    setup.spoil(setup.primary, COMPARISON)
    with within(2.0), db.atomic():
        db.execute_sql(WRITE)
    assert written(setup) == 1


def readiness(setup: Setup) -> None:
    if setup.mysql:
        pytest.skip("Galera is MariaDB's")
    db = setup.database()
    nodes_of(db)[0].unready = True
    setup.spoil(setup.replica, "wsrep_ready")
    with within(2.0):
        assert n_read(db) == 1


def cluster_wait(setup: Setup) -> None:
    if setup.mysql:
        pytest.skip("Galera is MariaDB's")
    db = setup.database()
    nodes_of(db)[0].in_galera = True
    setup.spoil(setup.replica, "wsrep_sync_wait")
    with within(CONNECT_SECONDS):
        assert n_read(db) == 1


def position_after_a_failed_write(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    owing(db)
    setup.spoil(setup.primary, setup.now)
    with within(CONNECT_SECONDS):
        assert n_read(db) == 1
    db.execute_sql(WRITE)
    assert written(setup) == 1


def position_for_strong(setup: Setup) -> None:
    db = setup.database(consistency="strong")
    assert n_read(db) == 1
    setup.spoil(setup.primary, setup.now)
    with within(CONNECT_SECONDS):
        if setup.fault == "stop":
            with pytest.raises(peewee.OperationalError):  # as documented: there is no telling
                n_read(db)
        else:
            assert n_read(db) == 1
    assert n_read(db) == 1


def position_for_a_bookmark(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    owing(db)
    setup.spoil(setup.primary, setup.now)
    with within(CONNECT_SECONDS):
        assert db.bookmark()
    assert n_read(db) == 1


def history(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    with frozen(setup.cluster):
        db.execute_sql("UPDATE slot SET n = 7 WHERE name = 'a'")
        setup.spoil(setup.primary, setup.history)
        with within(CATCH_UP_SECONDS + CONNECT_SECONDS):
            assert n_read(db) == 7
        assert n_read(db) == 7


def _late(setup: Setup, db: Any) -> None:
    assert n_read(db) == 1
    db.execute_sql("UPDATE slot SET n = 7 WHERE name = 'a'")
    setup.spoil(setup.replica, setup.wait)
    with within(CATCH_UP_SECONDS + 2 * CONNECT_SECONDS):
        assert n_read(db) == 7
    assert n_read(db) == 7


def wait_with_the_read(setup: Setup) -> None:
    _late(setup, setup.database())


def wait_alone(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    progress = nodes_of(db)[0].progress
    progress.stall(Clock.monotonic() - 60)  # a node that was late is only looked at first
    if progress.stalled is None:
        progress.stalled = object()
    _late(setup, db)


def wait_alone_for_a_late_replica(setup: Setup) -> None:
    with frozen(setup.cluster):
        wait_alone(setup)


def wait_before_a_streamed_read(setup: Setup) -> None:
    _late(setup, setup.database(cursorclass=SSCursor))


def wait_before_a_snapshot(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    db.execute_sql("UPDATE slot SET n = 7 WHERE name = 'a'")
    setup.spoil(setup.replica, setup.wait)
    with within(CATCH_UP_SECONDS + CONNECT_SECONDS), db.readonly(snapshot=True):
        assert n_read(db) == 7
    assert n_read(db) == 7


def wait_before_a_snapshot_of_a_late_replica(setup: Setup) -> None:
    with frozen(setup.cluster):
        wait_before_a_snapshot(setup)


def _snapshot(setup: Setup, marker: str) -> None:
    db = setup.database()
    setup.spoil(setup.replica, marker)
    with within(CONNECT_SECONDS), db.readonly(snapshot=True):
        assert n_read(db) == 1
        elsewhere(setup.cluster, "UPDATE slot SET n = 8 WHERE name = 'a'")
        setup.cluster.sync()
        assert n_read(db) == 1
    assert n_read(db) == 8


def snapshot_life(setup: Setup) -> None:
    _snapshot(setup, "SET SESSION wait_timeout")


def snapshot_isolation(setup: Setup) -> None:
    _snapshot(setup, "ISOLATION LEVEL REPEATABLE READ")


def snapshot_begin(setup: Setup) -> None:
    _snapshot(setup, "WITH CONSISTENT SNAPSHOT")


def report_after_an_error(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    owing(db)
    setup.spoil(setup.primary, "DO 0")
    with within(2.0 + CONNECT_SECONDS):
        assert n_read(db) == 1
    db.execute_sql(WRITE)
    assert written(setup) == 1


def roles_after_a_refusal(setup: Setup) -> None:
    db = setup.database()
    db.connection()
    setup.primary.answer("INSERT INTO mark", 1290, "running with the --read-only option")
    setup.spoil(setup.primary, "SELECT @@GLOBAL.read_only")
    with within(2.0), pytest.raises(peewee.OperationalError, match="1290"):
        db.execute_sql(WRITE)
    db.execute_sql(WRITE)
    assert written(setup) == 1


@contextmanager
def guarding(setup: Setup, **options: Any) -> Iterator[Any]:
    """A pool of one, whose connection for reading on the primary another thread has."""
    db = setup.database(PooledReplicatedDatabase, replicas=(), max_connections=1, **options)
    taken, done = threading.Event(), threading.Event()

    def reads() -> None:
        with db.readonly():
            n_read(db)
            taken.set()
            done.wait(30)
        db.close()

    thread = threading.Thread(target=reads)
    thread.start()
    taken.wait(30)
    try:
        db.execute_sql("DELETE FROM mark")  # takes the other pool's
        yield db
    finally:
        done.set()
        thread.join()


def _under_guard(setup: Setup, marker: str, sql: str) -> None:
    with guarding(setup) as db:
        setup.spoil(setup.primary, marker)
        with within(CONNECT_SECONDS), db.readonly():
            assert db.execute_sql(sql).fetchall()
        db.execute_sql(WRITE)
    assert written(setup) == 1


def guard(setup: Setup) -> None:
    _under_guard(setup, "SET SESSION TRANSACTION READ ONLY", READ)


def guard_before_a_query(setup: Setup) -> None:
    _under_guard(setup, "SET SESSION TRANSACTION READ ONLY", "SHOW TABLES")


def end_of_guard(setup: Setup) -> None:
    _under_guard(setup, "SET SESSION TRANSACTION READ WRITE", READ)


def end_of_guard_after_a_stream(setup: Setup) -> None:
    with guarding(setup, cursorclass=SSCursor) as db:
        with db.readonly():
            cursor = db.execute_sql(READ)
            assert cursor.fetchall() == [(1,)]
            del cursor
            cursor = db.execute_sql("SELECT n FROM slot UNION SELECT 2")
        setup.spoil(setup.primary, "SET SESSION TRANSACTION READ WRITE")
        assert len(cursor.fetchall()) == 2
        with within(CONNECT_SECONDS):
            db.execute_sql(WRITE)
    assert written(setup) == 1


PING = "\x01\0\0\0\x0e"


def ping_at_check_out(setup: Setup) -> None:
    db = setup.database(PooledReplicatedDatabase)
    db.execute_sql("DELETE FROM mark")
    db.close()
    setup.spoil(setup.primary, PING)
    with within(CONNECT_SECONDS):
        db.execute_sql(WRITE)
    assert written(setup) == 1


def ping_after_an_interrupted_query(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    setup.replica.answer("SELECT n", 1317, "Query execution was interrupted", state="70100")
    setup.spoil(setup.replica, PING)
    with within(CONNECT_SECONDS):
        if setup.fault == "delay":
            with pytest.raises(peewee.OperationalError, match="1317"):
                n_read(db)
        else:
            assert n_read(db) == 1  # its node does not answer, so it was no KILL QUERY
    assert n_read(db) == 1


def ping_for_the_user(setup: Setup) -> None:
    db = setup.database()
    assert n_read(db) == 1
    setup.spoil(setup.replica, PING)
    with within(CONNECT_SECONDS):
        assert db.is_connection_usable() is (setup.fault == "delay")
    assert n_read(db) == 1


def size_limit(setup: Setup) -> None:
    db = setup.database()
    db.execute_sql("DELETE FROM mark")
    setup.spoil(setup.primary, "max_allowed_packet")
    large = "/* " + "x" * (1 << 20) + " */ "
    with within(CONNECT_SECONDS):
        db.execute_sql(large + WRITE)
    assert written(setup) == 1


def size_limit_in_a_transaction(setup: Setup) -> None:
    db = setup.database()
    db.execute_sql("DELETE FROM mark")
    large = "/* " + "x" * (1 << 20) + " */ "
    setup.spoil(setup.primary, "max_allowed_packet")
    with within(CONNECT_SECONDS):
        if setup.fault == "delay":
            with db.atomic():
                db.execute_sql(large + WRITE)
        else:
            with pytest.raises(peewee.OperationalError, match="nothing of its transaction"), db.atomic():
                db.execute_sql(large + WRITE)
            with db.atomic():
                db.execute_sql(large + WRITE)
    assert written(setup) == 1


def roll_back_at_check_in(setup: Setup) -> None:
    db = setup.database(PooledReplicatedDatabase)
    db.execute_sql("BEGIN")  # and left open
    setup.spoil(setup.primary, "ROLLBACK")
    with within(CONNECT_SECONDS):
        db.close()
    with within(CONNECT_SECONDS):
        db.execute_sql(WRITE)
    assert written(setup) == 1


def probe(setup: Setup) -> None:
    db = setup.database(probe_interval=0.1)
    setup.spoil(setup.replica, "SHOW GLOBAL VARIABLES WHERE")
    for _ in range(5):
        with within(CONNECT_SECONDS):
            assert n_read(db) == 1
    until(setup.spoiled)
    with within(CONNECT_SECONDS):
        assert n_read(db) == 1
    db.execute_sql(WRITE)
    assert written(setup) == 1


class Case(NamedTuple):
    """How a row of the page is driven.

    Attributes:
        row: its name there.
        drive: brings its question about.
        threads: why it is none of the asyncio form's, or ``""``.
    """

    row: str
    drive: Callable[[Setup], None]
    threads: str = ""


_POOL = "its pool sends nothing at check-out and check-in"

CASES = [
    Case("settings", settings_on_a_replica),
    Case("settings", settings_on_the_primary),
    Case("comparison", comparison_on_a_replica),
    Case("comparison", comparison_on_the_primary),
    Case("readiness", readiness),
    Case("cluster wait", cluster_wait),
    Case("position", position_after_a_failed_write),
    Case("position", position_for_strong),
    Case("position", position_for_a_bookmark),
    Case("history", history),
    Case("wait with the read", wait_with_the_read),
    Case("wait alone", wait_alone),
    Case("wait alone", wait_alone_for_a_late_replica),
    Case("wait alone", wait_before_a_streamed_read, "its streams are another member"),
    Case("wait alone", wait_before_a_snapshot),
    Case("wait alone", wait_before_a_snapshot_of_a_late_replica),
    Case("snapshot", snapshot_life),
    Case("snapshot", snapshot_isolation),
    Case("snapshot", snapshot_begin),
    Case("report", report_after_an_error),
    Case("roles", roles_after_a_refusal),
    Case("guard", guard, "the pool is peewee's"),
    Case("guard", guard_before_a_query, "the pool is peewee's"),
    Case("end of guard", end_of_guard, "the pool is peewee's"),
    Case("end of guard", end_of_guard_after_a_stream, "the pool is peewee's"),
    Case("ping at check-out", ping_at_check_out, _POOL),
    Case("ping", ping_after_an_interrupted_query),
    Case("ping", ping_for_the_user, "a task keeps no connection to a replica"),
    Case("size limit", size_limit),
    Case("size limit", size_limit_in_a_transaction),
    Case("rollback at check-in", roll_back_at_check_in, _POOL),
    Case("probe", probe),
]


@pytest.fixture(params=FAULTS)
def setup(request: pytest.FixtureRequest, pair: Any) -> Iterator[Setup]:
    with ExitStack() as stack:
        yield Setup(pair, request.param, stack)


@pytest.mark.parametrize("case", CASES, ids=[case.drive.__name__ for case in CASES])
def test_a_spoiled_question_spoils_no_statement(setup: Setup, case: Case, form: str) -> None:
    if case.threads and form != "threads":
        pytest.skip(case.threads)
    case.drive(setup)
    assert setup.spoiled() == 1 + (case.drive in (roles_after_a_refusal, ping_after_an_interrupted_query))
