"""Nothing that writes reaches a replica, though nothing but this library keeps it from doing so.

The replicas here take writes (``read_only=OFF``) and the user has all privileges: the rows of each node
are the witnesses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters import SERVERS, own_cluster

from peewee_replicas import ReadOnlyViolation

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

ROUTINES = [
    "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n INT, by_node INT)",
    "CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, n INT)",
    """CREATE FUNCTION writes_f(x INT) RETURNS INT MODIFIES SQL DATA DETERMINISTIC
    BEGIN INSERT INTO t (n, by_node) VALUES (x, @@server_id); RETURN x; END""",
    """CREATE FUNCTION deletes_f(x INT) RETURNS INT MODIFIES SQL DATA DETERMINISTIC
    BEGIN DELETE FROM t WHERE n = x; RETURN x; END""",
    "CREATE FUNCTION reads_f(x INT) RETURNS INT NO SQL DETERMINISTIC RETURN x + 1",
    # Named like a built-in: `count (1)` and `` `count`(1) `` call it.
    """CREATE FUNCTION `count`(x INT) RETURNS INT MODIFIES SQL DATA DETERMINISTIC
    BEGIN INSERT INTO t (n, by_node) VALUES (x, @@server_id); RETURN x; END""",
    "CREATE PROCEDURE writes_p(x INT) INSERT INTO t (n, by_node) VALUES (x, @@server_id)",
    """CREATE PROCEDURE writes_in_transaction_p(x INT)
    BEGIN START TRANSACTION READ WRITE; INSERT INTO t (n) VALUES (x); COMMIT; END""",
    "CREATE VIEW calling AS SELECT writes_f(1000) AS x",
    "INSERT INTO t (n) VALUES (1), (2), (3)",
]

WRITES = [
    "INSERT INTO t (n) VALUES (10)",
    "INSERT INTO t (n) SELECT 11",
    "REPLACE INTO t (id, n) VALUES (900, 12)",
    "UPDATE t SET n = n + 100 WHERE n = 1",
    "DELETE FROM t WHERE n = 2",
    "DELETE t FROM t JOIN other USING (id)",
    "TRUNCATE TABLE other",
    "CREATE TABLE made (a INT)",
    "DROP TABLE made",
    "ALTER TABLE other ADD COLUMN m INT",
    "CALL writes_p(20)",
    "CALL writes_in_transaction_p(21)",
    "SELECT writes_f(30)",
    "SELECT WRITES_F(31) FROM DUAL",
    "SELECT `writes_f`(32)",
    "SELECT app.writes_f(33)",
    "SELECT `app`.`writes_f`(34)",
    "SELECT app . writes_f (35)",
    "SELECT writes_f/* hidden */(36)",
    "SELECT count (37)",
    "SELECT `count`(38)",
    "SELECT 1 WHERE writes_f(39) > 0",
    "SELECT * FROM t ORDER BY writes_f(40) LIMIT 1",
    "(SELECT writes_f(41))",
    "SELECT 1 UNION SELECT writes_f(42)",
    "WITH a AS (SELECT writes_f(43) AS x) SELECT * FROM a",
    "VALUES ROW(writes_f(44))",
    "SELECT * FROM calling",
    "DO writes_f(45)",
    "SET @x = writes_f(46)",
    "/*! INSERT INTO t (n) VALUES (50) */",
    "/*!50000 INSERT INTO */ t (n) VALUES (51)",
    "SELECT 1 /*! , writes_f(52) */",
    "SELECT /*!50000 writes_f(53) */",
    "EXPLAIN ANALYZE SELECT writes_f(54)",
    "SELECT deletes_f(3)",
]
# These fail where the server does not have them, which is as good.
DIALECTS = {
    "mariadb": [
        "INSERT INTO t (n) VALUES (60) RETURNING n",
        "DELETE FROM t WHERE n = 60 RETURNING n",
        "WITH a AS (SELECT 61 AS x) SELECT writes_f(x) FROM a",
        "/*M! INSERT INTO t (n) VALUES (62) */",
        "/*M!100000 SELECT writes_f(63) */",
        "ANALYZE UPDATE t SET n = n + 1000 WHERE n = 10",
        "ANALYZE FORMAT=JSON DELETE FROM t WHERE n = 11",
        "ANALYZE SELECT writes_f(64)",
        "SET STATEMENT max_statement_time=10 FOR INSERT INTO t (n) VALUES (65)",
        "EXECUTE IMMEDIATE 'INSERT INTO t (n) VALUES (66)'",
        "BEGIN NOT ATOMIC INSERT INTO t (n) VALUES (67); END",
        "CREATE SEQUENCE s",
        "SELECT NEXTVAL(s)",
        "SELECT NEXT VALUE FOR s",
        "SELECT SETVAL(s, 100)",
        "DROP SEQUENCE s",
        "VALUES (writes_f(68))",
    ],
    "mysql": [
        "WITH a AS (SELECT 70 AS x) UPDATE t, a SET t.n = t.n + 1000 WHERE t.n = 10",
        "WITH a AS (SELECT 11 AS x) DELETE t FROM t JOIN a ON t.n = a.x",
        "with recursive a (x) as (select 1 union all select x + 1 from a where x < 3) "
        "update t join a on t.n = a.x set t.n = 71",
        "INSERT INTO t (n) WITH a AS (SELECT 72 AS x) SELECT x FROM a",
        "INSERT INTO t (n) TABLE other",
        "EXPLAIN ANALYZE INSERT INTO t (n) VALUES (73)",
        "EXPLAIN ANALYZE FORMAT=TREE SELECT writes_f(74)",
        "VALUES ROW(writes_f(75)), ROW(2)",
    ],
}


@pytest.fixture(scope="module", params=SERVERS)
def writable(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster whose replicas take writes, with routines that write."""
    with own_cluster(request.param, options={"*": {"read_only": False}}) as cluster:
        admin = cluster.database(consistency="eventual", user=cluster.admin_user)
        with admin.primary():
            for text in ROUTINES:
                admin.execute_sql(text)
        admin.close()
        cluster.sync()
        assert not any(node.execute("SELECT @@read_only")[0][0] for node in cluster.replicas)
        yield cluster


@pytest.fixture
def everything(writable: Any) -> Iterator[Any]:
    """A database for the user with all privileges."""
    writable.sync()
    database = writable.database(user=writable.admin_user, consistency="eventual")
    yield database
    if not database.is_closed():
        database.close()


def rows(node: Any) -> Any:
    """Everything of the node's that a statement here could change."""
    found = {}
    with node._control.session() as cursor:  # one for all, since opening it is most of the work
        cursor.execute("SHOW TABLES FROM app")
        for (name,) in cursor.fetchall():
            if name not in ("calling", "s"):
                cursor.execute(f"SELECT * FROM app.`{name}` ORDER BY 1")
                found[name] = cursor.fetchall()
    return found


def attempt(run: Callable[[], Any]) -> str:
    """What became of it: ``"ran"``, or the error's class."""
    try:
        cursor = run()
        if cursor is not None and hasattr(cursor, "fetchall"):
            cursor.fetchall()
    except (peewee.PeeweeException, pymysql.MySQLError) as exc:
        return type(exc).__name__
    return "ran"


def texts(cluster: Any) -> list[str]:
    return WRITES + DIALECTS[cluster.server]


def test_a_user_with_all_privileges_could_write_on_a_replica_without_us(writable: Any) -> None:
    node = writable.replicas[0]
    parameters = {**writable.parameters(node), "user": writable.admin_user}
    plain = peewee.MySQLDatabase(parameters.pop("database"), **parameters)
    plain.execute_sql("SET SESSION sql_log_bin = 0")  # replication goes on after it
    plain.execute_sql("INSERT INTO other (id, n) VALUES (999, 1)")
    assert node.execute("SELECT n FROM app.other WHERE id = 999") == [(1,)]
    plain.execute_sql("DELETE FROM other WHERE id = 999")
    plain.close()


def test_no_write_outside_scopes_reaches_a_replica(writable: Any, everything: Any) -> None:
    own = {node.name: node.execute("SELECT @@server_id")[0][0] for node in writable.nodes}
    ran = [attempt(lambda text=text: everything.execute_sql(text)) for text in texts(writable)]
    assert ran.count("ran") >= len(ran) - 6, list(zip(texts(writable), ran, strict=True))
    writable.sync()
    primary = rows(writable.primary)
    for node in writable.replicas:
        assert rows(node) == primary
    wrote = {by for (by,) in writable.primary.execute("SELECT DISTINCT by_node FROM app.t WHERE by_node")}
    assert wrote == {own["primary"]}


def refused_everywhere(writable: Any, run: Callable[[str], Any]) -> dict[str, str]:
    writable.sync()
    before = {node.name: rows(node) for node in writable.nodes}
    results = {text: attempt(lambda text=text: run(text)) for text in texts(writable)}
    writable.sync()
    assert {node.name: rows(node) for node in writable.nodes} == before
    return results


def test_nothing_is_written_anywhere_inside_readonly(writable: Any, everything: Any) -> None:
    def run(text: str) -> Any:
        with everything.readonly():
            return everything.execute_sql(text)

    results = refused_everywhere(writable, run)
    assert "ran" not in {result for text, result in results.items() if "INSERT" in text or "UPDATE t" in text}
    assert set(results.values()) <= {"ReadOnlyViolation", "ProgrammingError", "OperationalError", "ran"}
    ran = [text for text, result in results.items() if result == "ran"]
    assert all(text.upper().startswith(("EXPLAIN", "SELECT 1 UNION")) for text in ran), ran


def test_nothing_is_written_anywhere_by_a_raw_cursor_inside_readonly(writable: Any, everything: Any) -> None:
    def run(text: str) -> Any:
        with everything.readonly():
            cursor = everything.cursor()
            cursor.execute(text)
            return cursor

    refused_everywhere(writable, run)

    def on_connection(text: str) -> Any:
        with everything.readonly():
            return everything.connection().query(text)

    refused_everywhere(writable, on_connection)


LIFTS = [
    ["START TRANSACTION READ WRITE"],
    ["SET SESSION TRANSACTION READ WRITE"],
    ["SET TRANSACTION READ WRITE"],
    ["SET SESSION transaction_read_only = OFF"],
    ["SET SESSION tx_read_only = OFF"],
    ["SET @@transaction_read_only = 0"],
    ["/*! SET SESSION TRANSACTION READ WRITE */"],
    ["XA START 'a'"],
    ["BEGIN"],
    ["PREPARE p FROM 'SET SESSION TRANSACTION READ WRITE'", "EXECUTE p"],
    ["CALL writes_in_transaction_p(500)"],
]


@pytest.mark.parametrize("lift", LIFTS, ids=lambda lift: lift[0])
@pytest.mark.parametrize("means", ["execute_sql", "cursor", "connection", "kept cursor"])
def test_the_guard_cannot_be_lifted_from_inside_readonly(
    writable: Any, everything: Any, lift: list[str], means: str
) -> None:
    before = {node.name: rows(node) for node in writable.nodes}
    with everything.readonly():
        kept = everything.cursor()
        if means == "kept cursor":
            everything.execute_sql("SELECT 1")
        for text in [*lift, "INSERT INTO t (n) VALUES (501)", "COMMIT"]:
            if means == "execute_sql":
                attempt(lambda text=text: everything.execute_sql(text))
            elif means == "connection":
                attempt(lambda text=text: everything.connection().query(text))
            else:
                cursor = kept if means == "kept cursor" else everything.cursor()
                attempt(lambda text=text, cursor=cursor: cursor.execute(text))
    writable.sync()
    assert {node.name: rows(node) for node in writable.nodes} == before


def test_callproc_inside_readonly_is_refused(writable: Any, everything: Any) -> None:
    before = {node.name: rows(node) for node in writable.nodes}
    with everything.readonly(), pytest.raises(ReadOnlyViolation):
        everything.cursor().callproc("writes_in_transaction_p", (600,))
    assert {node.name: rows(node) for node in writable.nodes} == before


def test_a_read_that_was_none_is_rerun_once_on_the_primary_and_remembered(
    writable: Any, caplog: pytest.LogCaptureFixture
) -> None:
    database = writable.database(user=writable.admin_user, pure_functions=["writes_f"])
    with database.primary():
        database.execute_sql("DELETE FROM t WHERE n = 700")  # the other form's, on the same cluster
    writable.sync()
    events: list[Any] = []
    database.route_hooks.append(events.append)
    text = "SELECT writes_f(%s) + 1"
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        assert database.execute_sql(text, (700,)).fetchone() == (701,)
        assert database.execute_sql(text, (700,)).fetchone() == (701,)
        assert database.execute_sql(text, (700,)).fetchone() == (701,)
    writable.sync()
    for node in writable.nodes:
        assert node.execute("SELECT COUNT(*) FROM app.t WHERE n = 700") == [(3,)]
    primary = writable.primary.execute("SELECT @@server_id")[0][0]
    assert set(writable.primary.execute("SELECT by_node FROM app.t WHERE n = 700")) == {(primary,)}
    assert [event.attempts for event in events] == [2, 1, 1]
    assert [event.role for event in events] == ["primary"] * 3
    assert "1792" in events[0].reason
    assert [event.kind for event in events] == ["read", "unknown", "unknown"]
    assert database.stats()["reruns"] == 1
    said = [record for record in caplog.records if "refused as a write" in record.getMessage()]
    assert len(said) == 1
    assert said[0].levelname == "WARNING"


def test_a_rerun_also_happens_where_the_replica_itself_is_read_only(cluster: Any, db: Any) -> None:
    database = cluster.database(consistency="eventual", user=cluster.admin_user, pure_functions=["writes_g"])
    database.execute_sql("DROP FUNCTION IF EXISTS writes_g")
    database.execute_sql(
        "CREATE FUNCTION writes_g() RETURNS INT MODIFIES SQL DATA DETERMINISTIC "
        "BEGIN INSERT INTO item (name, n) VALUES ('g', 1); RETURN 1; END"
    )
    database.close()
    cluster.sync()
    assert database.execute_sql("SELECT writes_g()").fetchone() == (1,)
    cluster.sync()
    assert [node.execute("SELECT COUNT(*) FROM app.item") for node in cluster.nodes] == [[(1,)]] * 3
    assert database.stats()["reruns"] == 1


def test_a_read_that_was_none_is_a_violation_inside_readonly(writable: Any) -> None:
    before = {node.name: rows(node) for node in writable.nodes}
    arguments: list[dict[str, Any]] = [{}, {"replicas": []}, {"reads": "observe"}]
    for more in arguments:
        database = writable.database(user=writable.admin_user, pure_functions=["writes_f"], **more)
        with database.readonly():
            with pytest.raises(ReadOnlyViolation, match="nothing was executed"):
                database.execute_sql("SELECT writes_f(800)")
            with pytest.raises(ReadOnlyViolation, match="nothing was executed"):
                database.on_primary.execute_sql("SELECT writes_f(800)")
        assert database.stats()["reruns"] == 0
        database.close()
    assert {node.name: rows(node) for node in writable.nodes} == before


def test_readonly_stays_guarded_where_session_state_keeps_it_on_the_primary(
    writable: Any, everything: Any
) -> None:
    before = {node.name: rows(node) for node in writable.nodes}
    everything.execute_sql("CREATE TEMPORARY TABLE mine (a INT)")
    with everything.readonly():
        assert everything.execute_sql("SELECT COUNT(*) FROM mine").fetchone() == (0,)
        assert everything.execute_sql("SELECT reads_f(1)").fetchone() == (2,)
        with pytest.raises(ReadOnlyViolation):
            everything.execute_sql("SELECT writes_f(900)")
    everything.execute_sql("INSERT INTO mine VALUES (1)")  # the guard is off again
    assert everything.execute_sql("SELECT COUNT(*) FROM mine").fetchone() == (1,)
    assert {node.name: rows(node) for node in writable.nodes} == before


def test_a_query_that_cannot_be_proven_runs_on_a_replica_only_inside_readonly(
    writable: Any, everything: Any
) -> None:
    writable.reset_counts()
    assert everything.execute_sql("SELECT reads_f(1)").fetchone() == (2,)
    assert [writable.counts()[node.name].reads for node in writable.replicas] == [0, 0]
    with everything.readonly():
        assert everything.execute_sql("SELECT reads_f(1)").fetchone() == (2,)
    assert sum(writable.counts()[node.name].reads for node in writable.replicas) == 1


def test_pure_functions_are_reads(writable: Any) -> None:
    database = writable.database(user=writable.admin_user, pure_functions=["reads_f"])
    writable.reset_counts()
    assert database.execute_sql("SELECT reads_f(1)").fetchone() == (2,)
    assert writable.counts()["primary"].reads == 0
