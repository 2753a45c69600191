"""MariaDB with several GTID domains: one position does not cover what was written and read in another domain.

The replica applies domains in parallel, and a row lock holds up what was written in domain 0, or in domain 1.
Members of this kind, found by going through everything that takes a position for all of what a context did:
statements that commit more than once (a procedure, a block, several statements in one text, a prepared
call, each also inside a transaction), statements whose position is not reported because only the domain
changed, and a COMMIT that stands for what its transaction had read in another domain. Each is then read by
the same thread, at level process, from a bookmark, and by another thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from pymysql.constants import CLIENT
from support.clusters import administrator, own_cluster

from peewee_replicas.consistency import levels
from peewee_replicas.consistency.debts import Left
from peewee_replicas.testing import LocalCluster

TABLE = "held"
SET = "SET gtid_domain_id = {domain}"
UPDATE = f"UPDATE {TABLE} SET n = {{value}} WHERE id = {{domain}}"
# Both domains, 0 first, so that what is reported last is of domain 1.
BOTH = [
    text for domain in (0, 1) for text in (SET.format(domain=domain), UPDATE.replace("{domain}", str(domain)))
]


@pytest.fixture(scope="module")
def domains() -> Iterator[LocalCluster]:
    """A primary that has written in two domains, and a replica that applies them in parallel."""
    with own_cluster("mariadb", 1, options={"*": {"slave_parallel_threads": 4}}) as cluster:
        schema = cluster.database_name
        with administrator(cluster, cluster.primary, database=schema) as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 1")
            cursor.execute(f"CREATE TABLE {TABLE} (id INT PRIMARY KEY, n INT)")
            cursor.execute(f"INSERT INTO {TABLE} VALUES (0, 0), (1, 0)")
            body = "; ".join([*BOTH, SET.format(domain=0)]).format(value="value")
            cursor.execute(f"CREATE PROCEDURE two (value INT) BEGIN {body}; END")
            cursor.execute(
                f"CREATE PROCEDURE after_commit (value INT) BEGIN COMMIT; {body}; START TRANSACTION; END"
            )
            cursor.execute("CALL two(1)")
        cluster.sync()
        yield cluster


@contextmanager
def held_up(cluster: LocalCluster, domain: int) -> Iterator[None]:
    """The replica cannot apply what is written in one domain."""
    schema = cluster.database_name
    with administrator(cluster, cluster.replicas[0], database=schema) as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"SELECT * FROM {TABLE} WHERE id = %s FOR UPDATE", (domain,))
        yield
        conn.rollback()
    cluster.sync()


def write_elsewhere(cluster: LocalCluster, value: int, domain: int) -> None:
    """What another program does."""
    schema = cluster.database_name
    with administrator(cluster, cluster.primary, database=schema) as conn, conn.cursor() as cursor:
        cursor.execute(f"SET SESSION sql_log_bin = 1, gtid_domain_id = {domain}")
        cursor.execute(UPDATE.format(value=value, domain=domain))


def rows(db: Any) -> tuple[Any, ...]:
    found = tuple(n for (n,) in db.execute_sql(f"SELECT n FROM {TABLE} ORDER BY id").fetchall())
    db.close()
    return found


def call(db: Any, value: int) -> None:
    db.execute_sql("CALL two(%s)", (value,))


def call_with_a_comment(db: Any, value: int) -> None:
    db.execute_sql("/* from a test */ CALL two(%s)", (value,))


def call_that_commits_what_was_open(db: Any, value: int) -> None:
    with db.atomic():
        db.execute_sql(f"UPDATE {TABLE} SET n = 0 WHERE id = 0")
        db.execute_sql("CALL after_commit(%s)", (value,))


def block(db: Any, value: int) -> None:
    db.execute_sql(f"BEGIN NOT ATOMIC {'; '.join(BOTH).format(value=value)}; SET gtid_domain_id = 0; END")


def several_in_one_text(db: Any, value: int) -> None:
    db.execute_sql("; ".join([*BOTH, SET.format(domain=0)]).format(value=value))


def several_that_begin_with_a_plain_write(db: Any, value: int) -> None:
    db.execute_sql(f"UPDATE {TABLE} SET n = {value} WHERE id = 0; CALL two({value})")


def prepared(db: Any, value: int) -> None:
    db.execute_sql(f"PREPARE twice FROM 'CALL two({value})'")
    db.execute_sql("EXECUTE twice")


def immediate(db: Any, value: int) -> None:
    db.execute_sql(f"EXECUTE IMMEDIATE 'CALL two({value})'")


def one_by_one(db: Any, value: int) -> None:
    for text in BOTH:
        db.execute_sql(text.format(value=value))


def for_one_statement(db: Any, value: int) -> None:
    for domain in (0, 1):
        update = UPDATE.format(value=value, domain=domain)
        db.execute_sql(f"SET STATEMENT gtid_domain_id = {domain} FOR {update}")


def in_transactions(db: Any, value: int) -> None:
    for domain in (0, 1):
        db.execute_sql(SET.format(domain=domain))
        with db.atomic():
            db.execute_sql(UPDATE.format(value=value, domain=domain))


def by_a_raw_cursor(db: Any, value: int) -> None:
    db.cursor().execute("CALL two(%s)", (value,))


def callproc(db: Any, value: int) -> None:
    db.cursor().callproc("two", (value,))


WRITES: list[Callable[[Any, int], None]] = [
    call, call_with_a_comment, call_that_commits_what_was_open, block, several_in_one_text,
    several_that_begin_with_a_plain_write, prepared, immediate, one_by_one, for_one_statement,
    in_transactions, by_a_raw_cursor, callproc,
]  # fmt: skip
_value = iter(range(10, 10_000))


def database(cluster: LocalCluster, **options: Any) -> Any:
    options = {"catch_up_timeout": 0.05, "client_flag": CLIENT.MULTI_STATEMENTS, **options}
    return cluster.database(user=cluster.admin_user, **options)


@pytest.mark.parametrize("held", [0, 1])
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_what_was_written_in_each_domain_is_seen(
    domains: LocalCluster, write: Callable[[Any, int], None], held: int
) -> None:
    db, value = database(domains), next(_value)
    rows(db)
    with held_up(domains, held):
        write(db, value)
        db.close()
        assert rows(db) == (value, value)


@pytest.mark.parametrize("held", [0, 1])
def test_it_is_seen_at_other_levels_from_bookmarks_and_in_other_threads(
    domains: LocalCluster, held: int
) -> None:
    db, value = database(domains), next(_value)
    process = database(domains, consistency="process")
    rows(db), rows(process)
    with held_up(domains, held), ThreadPoolExecutor(1) as pool:
        call(db, value)
        mark = db.bookmark()
        assert pool.submit(rows, db).result() == (value, value)
        assert rows(process) == (value, value)
        with database(domains).causal_session(mark) as session:
            assert rows(session) == (value, value)


def test_a_commit_does_not_stand_for_what_was_read_in_another_domain(domains: LocalCluster) -> None:
    db, value = database(domains), next(_value)
    rows(db)
    with held_up(domains, 1):
        write_elsewhere(domains, value, 1)
        with db.atomic():
            ((seen,),) = db.execute_sql(f"SELECT n FROM {TABLE} WHERE id = 1").fetchall()
            db.execute_sql(UPDATE.format(value=value, domain=0))
        assert seen == value
        assert rows(db) == (value, value)


NOTHING = {
    "an optimistic update that lost": f"UPDATE {TABLE} SET n = 1 WHERE id = 1 AND n = 0",
    "an update to what is there": f"UPDATE {TABLE} SET n = {{value}} WHERE id = 1",
    "a row that is there": f"INSERT IGNORE INTO {TABLE} VALUES (1, 0)",
    "a row that is there, returning none": f"INSERT IGNORE INTO {TABLE} VALUES (1, 0) RETURNING id",
    "an upsert that changes nothing": f"INSERT INTO {TABLE} VALUES (1, 0) ON DUPLICATE KEY UPDATE id = id",
    "a delete of nothing": f"DELETE FROM {TABLE} WHERE id = 1 AND n = 0",
}


@pytest.mark.parametrize("write", NOTHING.values(), ids=NOTHING)
def test_a_commit_does_not_stand_for_what_another_domain_kept_from_being_written(
    domains: LocalCluster, write: str
) -> None:
    db, value = database(domains), next(_value)
    rows(db)
    with held_up(domains, 1):
        write_elsewhere(domains, value, 1)
        with db.atomic():
            assert not db.execute_sql(write.format(value=value)).fetchall()
            db.execute_sql(UPDATE.format(value=value, domain=0))
        assert rows(db) == (value, value)


def test_with_a_single_domain_a_commit_stands_for_all_that_was_read(pair: Any, server: str) -> None:
    """No question to the primary but the first, which tells how many domains there are."""
    if server != "mariadb":
        pytest.skip("of MySQL a commit's position never says what was read")
    db = pair.database(probe_interval=None)
    for n in range(4):
        with db.atomic():
            db.execute_sql("SELECT n FROM slot")
            db.execute_sql("UPDATE slot SET n = %s", (100 + n,))
        assert db.execute_sql("SELECT n FROM slot").fetchall() == ((100 + n,),)
        assert db.stats()["asked"] == 1
    db.close()


def test_without_the_mend_these_tests_fail(domains: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "left_by", lambda *_, **__: Left(False, False))
    stale = set()
    for write in WRITES:
        db, value = database(domains), next(_value)
        rows(db)
        with held_up(domains, 0):
            write(db, value)
            db.close()
            if rows(db) != (value, value):
                stale.add(write)
    # The others report each position by itself.
    assert stale >= {call, call_with_a_comment, block, immediate, by_a_raw_cursor, callproc}
