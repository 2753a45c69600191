"""Random statements on real replicas: the server's own verdict on what the classifier called a read.

``PEEWEE_REPLICAS_FUZZ`` is the number of statements per server, ``PEEWEE_REPLICAS_FUZZ_SEED`` chooses them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT
from support.clusters import SERVERS, own_cluster
from support.statements.generator import statements

from peewee_replicas.servers.wire import connection as wire
from peewee_replicas.statements.classifier import Classifier

STATEMENTS = int(os.environ.get("PEEWEE_REPLICAS_FUZZ", "3000"))
SEED = int(os.environ.get("PEEWEE_REPLICAS_FUZZ_SEED", "1"))
REFUSED = {1290, 1792, 1836, 1874}
BATCH = 250

# The classifier knows no session's mode, so whatever it calls a read has to be one in each of them.
MODES = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]

SCHEMA = [
    "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), n INT)",
    "CREATE TABLE child (id INT AUTO_INCREMENT PRIMARY KEY, item_id INT, note VARCHAR(40))",
    "CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, x INT)",
    "INSERT INTO item (name, n) VALUES ('a', 1), ('b', 2), ('xyz', 3)",
    "INSERT INTO child (item_id, note) VALUES (1, 'one'), (1, 'two'), (2, 'three')",
    "CREATE VIEW item_view AS SELECT id, name, n FROM item",
    "CREATE FUNCTION pure_f(x INT) RETURNS INT NO SQL DETERMINISTIC RETURN x + 1",
    """CREATE FUNCTION writes_f(x INT) RETURNS INT MODIFIES SQL DATA DETERMINISTIC
    BEGIN INSERT INTO audit (x) VALUES (x); RETURN x; END""",
    """CREATE FUNCTION locks_f() RETURNS INT READS SQL DATA DETERMINISTIC
    RETURN GET_LOCK('fuzz_f', 0)""",
]


@pytest.fixture(scope="module", params=SERVERS)
def target(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster whose replica takes writes."""
    with own_cluster(request.param, 1, options={"*": {"read_only": False}}) as cluster:
        admin = cluster.database(consistency="eventual", user=cluster.admin_user)
        for text in SCHEMA:
            admin.execute_sql(text)
        admin.close()
        cluster.sync()
        yield cluster


def connect(cluster: Any, mode: str) -> wire.Connection:
    """A connection as the library opens it for reading; several statements in one text are allowed."""
    parameters = {**cluster.parameters(cluster.replicas[0]), "user": cluster.admin_user}
    return wire.Connection(
        **parameters,
        autocommit=True,
        guard=True,
        read_timeout=30,
        client_flag=CLIENT.MULTI_STATEMENTS,
        init_command=f"SET SESSION sql_mode = '{mode}'" if mode else None,
    )


def run(conn: Any, text: str) -> int:
    """Run it to its last row; returns the error's number, or 0."""
    try:
        conn.query(text)
        while conn._result.has_next:
            conn.next_result()
    except pymysql.err.MySQLError as exc:
        return int(exc.args[0])
    return 0


def fingerprint(node: Any) -> Any:
    """Everything of the node's that a statement could have changed."""
    tables = ["app.item", "app.child", "app.audit"]
    return (
        node.position(),
        node.execute("SHOW TABLES FROM app"),
        node.execute(f"CHECKSUM TABLE {', '.join(tables)}"),
        [node.execute(f"SELECT IS_USED_LOCK('{name}')") for name in ("fuzz", "fuzz_f", "g", "a")],
    )


def check(unchanged: bool, connections: list[wire.Connection], batch: list[str]) -> None:
    # No server reports a user variable that a SELECT has set.
    variables = {conn.ask("SELECT @a, @b") for conn in connections}
    assert unchanged, "one of these changed something:\n" + "\n".join(batch)
    assert variables == {((None, None),)}, "one of these set a variable:\n" + "\n".join(batch)


def sweep(target: Any, wanted: str, amount: int) -> Counter[str]:
    """Run the statements of one kind; returns how many ran, failed and were refused."""
    classifier = Classifier(target.server, ["pure_f"], target.version)
    connections = [connect(target, mode) for mode in MODES]
    replica = target.replicas[0]
    before = fingerprint(replica)
    seen: Counter[str] = Counter()
    batch: list[str] = []
    refused: list[str] = []
    for number, text in enumerate(islice(statements(SEED, target.server), amount)):
        seen["generated"] += 1
        if classifier.classify_sent(text).kind != wanted:
            continue
        conn = connections[number % len(connections)]
        error = run(conn, text)
        seen["refused" if error in REFUSED else "failed" if error else "ran"] += 1
        if error in REFUSED:
            refused.append(f"{error}: {text}")
        if wanted == "read":
            assert not conn.changes, f"changed the session: {text}"
            assert not conn.transaction, f"left a transaction: {text}"
        batch.append(text)
        if len(batch) == BATCH:
            check(fingerprint(replica) == before, connections, batch)
            batch.clear()
    check(fingerprint(replica) == before, connections, batch)
    for conn in connections:
        conn.close()
    print(f"{target.server} {target.version}, seed {SEED}, {wanted}: {dict(seen)}")
    if wanted == "read":
        assert not refused, "\n".join(refused)
    return seen


@pytest.mark.lesson(10)
def test_no_read_is_refused_as_a_write_or_changes_anything(target: Any) -> None:
    seen = sweep(target, "read", STATEMENTS)
    assert seen["ran"] > STATEMENTS // 8, seen  # or the generator's texts are not worth their name


def test_nothing_that_readonly_lets_through_writes(target: Any) -> None:
    classifier = Classifier(target.server, ["pure_f"], target.version)
    conn = connect(target, "")
    replica = target.replicas[0]
    before = fingerprint(replica)[:3]  # a function may take a named lock, which nobody can tell
    seen: Counter[str] = Counter()
    for text in islice(statements(SEED + 1, target.server), STATEMENTS):
        if classifier.classify_sent(text).kind == "query":
            error = run(conn, text)
            seen["refused" if error in REFUSED else "failed" if error else "ran"] += 1
    conn.close()
    print(f"{target.server} {target.version}, seed {SEED + 1}, query: {dict(seen)}")
    assert fingerprint(replica)[:3] == before
    assert seen["refused"] > 0, seen  # some did call a function that writes, and the server's guard held
    assert seen["ran"] > 0, seen


def test_the_fuzz_would_notice(target: Any) -> None:
    conn = connect(target, "")
    assert run(conn, "SELECT writes_f(1) FROM item") in REFUSED
    assert run(conn, "SELECT @a := 1") == 0
    with pytest.raises(AssertionError, match="set a variable"):
        check(True, [conn], [])
    assert run(conn, "SET @c = 1") == 0
    assert conn.changes
    before = fingerprint(target.replicas[0])
    assert run(conn, "SELECT GET_LOCK('fuzz', 0)") == 0
    assert fingerprint(target.replicas[0]) != before
    conn.close()
    free = connect(target, "")
    free.query("SET SESSION sql_log_bin = 0")
    free.query("SET SESSION TRANSACTION READ WRITE")
    locked = fingerprint(target.replicas[0])
    assert run(free, "SELECT writes_f(1)") == 0
    assert fingerprint(target.replicas[0])[:3] != locked[:3]
    assert run(free, "DELETE FROM audit") == 0
    free.close()
