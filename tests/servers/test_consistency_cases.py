"""Every way to change data, and every way to fail at it, followed at once by a read.

In each case the only replica is held back. Either it stays so, and the read has to come from the primary; or
it begins to move while the read waits, and the replica has to serve it, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import peewee
import pytest
from lagging import LONG, MODELS, SHORT, Mark, Slot, clear, elsewhere, frozen, held_back, n_of, soon, watched
from pymysql.constants import CLIENT
from pymysql.cursors import DictCursor, SSCursor, SSDictCursor

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.servers import wire


class Then(NamedTuple):
    """What is read after the work of a case.

    Attributes:
        read: the read.
        answer: what it has to give.
        plain: whether it does nothing but read, so that it can be seen to be stale at level eventual.
    """

    read: Callable[[], Any]
    answer: Any
    plain: bool = True


Case = Callable[[Any, Any], Then]
CASES: dict[str, Case] = {}
OPTIONS: dict[str, dict[str, Any]] = {}


def case(**options: Any) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[function.__name__] = function
        OPTIONS[function.__name__] = options
        return function

    return add


# Every case begins with one row ("a", 1) on all nodes.


@case()
def insert(db: Any, cluster: Any) -> Then:
    Slot.create(name="b", n=7)
    return Then(lambda: n_of("b"), 7)


@case()
def update(db: Any, cluster: Any) -> Then:
    Slot.update(n=2).where(Slot.name == "a").execute()
    return Then(n_of, 2)


@case()
def delete(db: Any, cluster: Any) -> Then:
    Slot.delete().where(Slot.name == "a").execute()
    return Then(n_of, None)


@case()
def many_rows(db: Any, cluster: Any) -> Then:
    Slot.insert_many([{"name": f"row {n}", "n": n} for n in range(50)]).execute()
    return Then(lambda: Slot.select().count(), 51)


@case()
def bulk_create(db: Any, cluster: Any) -> Then:
    Slot.bulk_create([Slot(name=f"row {n}") for n in range(20)], batch_size=5)
    return Then(lambda: Slot.select().count(), 21)


@case()
def get_or_create_of_what_another_has_made(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")

    def read() -> Any:
        slot, made = Slot.get_or_create(name="b", defaults={"n": 1})
        return slot.n, made

    return Then(read, (7, False), plain=False)


@case()
def get_or_create_twice(db: Any, cluster: Any) -> Then:
    first, made = Slot.get_or_create(name="b", defaults={"n": 7})
    assert made

    def read() -> Any:
        again, made = Slot.get_or_create(name="b", defaults={"n": 8})
        return again.id == first.id, again.n, made

    return Then(read, (True, 7, False), plain=False)


@case()
def upsert_that_changes(db: Any, cluster: Any) -> Then:
    Slot.insert(name="a", n=5).on_conflict(update={Slot.n: 5}).execute()
    return Then(n_of, 5)


@case()
def upsert_that_finds_it_done(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 5")
    Slot.insert(name="a", n=5).on_conflict(update={Slot.n: 5}).execute()
    return Then(n_of, 5)


@case()
def on_conflict_ignore(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")
    Slot.insert(name="b", n=1).on_conflict_ignore().execute()
    return Then(lambda: n_of("b"), 7)


@case()
def insert_ignore_of_a_new_row(db: Any, cluster: Any) -> Then:
    db.execute_sql("INSERT IGNORE INTO slot (name, n) VALUES ('b', 7)")
    return Then(lambda: n_of("b"), 7)


@case()
def replace(db: Any, cluster: Any) -> Then:
    Slot.replace(name="a", n=9).execute()
    return Then(n_of, 9)


@case()
def optimistic_update_that_matches_no_row(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    assert Slot.update(n=3).where((Slot.name == "a") & (Slot.n == 1)).execute() == 0
    return Then(n_of, 2)


@case()
def delete_that_matches_no_row(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "DELETE FROM slot WHERE name = 'a'")
    assert Slot.delete().where(Slot.name == "a").execute() == 0
    return Then(n_of, None)


@case()
def insert_that_loses(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")
    with pytest.raises(peewee.IntegrityError):
        Slot.create(name="b", n=1)
    return Then(lambda: n_of("b"), 7)


@case()
def insert_that_loses_in_a_transaction(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")
    with pytest.raises(peewee.IntegrityError), db.atomic():
        Slot.create(name="c", n=1)
        Slot.create(name="b", n=1)
    return Then(lambda: (n_of("b"), n_of("c")), (7, None))


@case()
def write_that_fails(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with pytest.raises(peewee.PeeweeException):
        db.execute_sql("UPDATE slot SET name = REPEAT('x', 1000) WHERE n = 2")
    return Then(n_of, 2)


@case()
def locking_read(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic():
        assert Slot.select().where(Slot.name == "a").for_update().get().n == 2
    return Then(n_of, 2)


@case()
def locking_read_in_autocommit(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    assert Slot.select().where(Slot.name == "a").for_update().get().n == 2
    return Then(n_of, 2)


@case()
def read_on_the_primary(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.primary():
        assert n_of() == 2
    return Then(n_of, 2)


@case()
def read_in_a_transaction(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic():
        assert n_of() == 2
    return Then(n_of, 2)


@case()
def read_in_a_transaction_that_writes_something_else(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic():
        assert n_of() == 2
        Mark.create(name="m")
    return Then(lambda: (n_of(), Mark.select().count()), (2, 1))


@case()
def read_then_rollback(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic() as transaction:
        assert n_of() == 2
        Slot.update(n=9).execute()
        transaction.rollback()
    return Then(n_of, 2)


@case()
def transaction(db: Any, cluster: Any) -> Then:
    with db.atomic():
        Slot.create(name="b", n=1)
        Slot.update(n=7).where(Slot.name == "b").execute()
    return Then(lambda: n_of("b"), 7)


@case()
def nested_transactions(db: Any, cluster: Any) -> Then:
    with db.atomic():
        Slot.create(name="b", n=1)
        with db.atomic() as inner:
            Slot.create(name="c", n=1)
            inner.rollback()
        with db.atomic():
            Slot.update(n=7).where(Slot.name == "b").execute()
    return Then(lambda: (n_of("b"), n_of("c")), (7, None))


@case()
def savepoint_taken_back_for_an_error(db: Any, cluster: Any) -> Then:
    with db.atomic():
        Slot.create(name="b", n=7)
        with suppress(peewee.IntegrityError), db.savepoint():
            Slot.create(name="a", n=1)
    return Then(lambda: n_of("b"), 7)


@case()
def commit_in_the_middle(db: Any, cluster: Any) -> Then:
    with db.atomic() as transaction:
        Slot.create(name="b", n=7)
        transaction.commit()
        Slot.create(name="c", n=7)
        transaction.rollback()
    return Then(lambda: (n_of("b"), n_of("c")), (7, None))


@case()
def manual_commit(db: Any, cluster: Any) -> Then:
    with db.manual_commit():
        db.begin()
        Slot.create(name="b", n=7)
        db.commit()
    return Then(lambda: n_of("b"), 7)


@case()
def session(db: Any, cluster: Any) -> Then:
    db.session_start()
    Slot.create(name="b", n=7)
    db.session_commit()
    return Then(lambda: n_of("b"), 7)


@case()
def raw_begin_and_commit(db: Any, cluster: Any) -> Then:
    for text in ("BEGIN", "INSERT INTO slot (name, n) VALUES ('b', 7)", "/* done */ COMMIT"):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def begin_that_commits_what_was_open(db: Any, cluster: Any) -> Then:
    for text in ("BEGIN", "INSERT INTO slot (name, n) VALUES ('b', 7)", "BEGIN", "ROLLBACK"):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def autocommit_off_and_on(db: Any, cluster: Any) -> Then:
    for text in ("SET autocommit = 0", "INSERT INTO slot (name, n) VALUES ('b', 7)", "SET autocommit = 1"):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def ddl_that_commits_what_was_open(db: Any, cluster: Any) -> Then:
    db.execute_sql("DROP TABLE IF EXISTS extra")
    db.execute_sql("BEGIN")
    db.execute_sql("INSERT INTO slot (name, n) VALUES ('b', 7)")
    db.execute_sql("CREATE TABLE extra (id INT PRIMARY KEY)")
    return Then(lambda: n_of("b"), 7)


@case()
def xa(db: Any, cluster: Any) -> Then:
    for text in (
        "XA START 'x'",
        "INSERT INTO slot (name, n) VALUES ('b', 7)",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    ):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def raw_cursor(db: Any, cluster: Any) -> Then:
    db.cursor().execute("INSERT INTO slot (name, n) VALUES (%s, %s)", ("b", 7))
    return Then(lambda: n_of("b"), 7)


@case()
def raw_cursor_with_many(db: Any, cluster: Any) -> Then:
    db.cursor().executemany("UPDATE slot SET n = n + %s WHERE name = %s", [(2, "a"), (3, "a")])
    return Then(n_of, 6)


@case()
def raw_connection_and_its_own_commit(db: Any, cluster: Any) -> Then:
    conn = db.connection()
    conn.begin()
    conn.cursor().execute("INSERT INTO slot (name, n) VALUES ('b', 7)")
    conn.commit()
    return Then(lambda: n_of("b"), 7)


@case()
def raw_connection_and_its_own_rollback(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    conn = db.connection()
    conn.begin()
    conn.cursor().execute("SELECT n FROM slot")
    conn.rollback()
    return Then(n_of, 2)


@case()
def truncate(db: Any, cluster: Any) -> Then:
    Slot.truncate_table()
    return Then(n_of, None)


@case()
def multi_table_delete(db: Any, cluster: Any) -> Then:
    Mark.create(name="a")
    db.execute_sql("DELETE slot, mark FROM slot JOIN mark ON slot.name = mark.name")
    return Then(lambda: (n_of(), Mark.select().count()), (None, 0))


@case()
def multi_table_update(db: Any, cluster: Any) -> Then:
    Mark.create(name="a")
    db.execute_sql("UPDATE slot JOIN mark ON slot.name = mark.name SET slot.n = 7")
    return Then(n_of, 7)


@case(client_flag=CLIENT.MULTI_STATEMENTS)
def several_statements_in_one(db: Any, cluster: Any) -> Then:
    cursor = db.execute_sql("UPDATE slot SET n = 2; SELECT 1; UPDATE slot SET n = n + 5")
    while cursor.nextset():
        pass
    return Then(n_of, 7)


PROCEDURES = {
    "fill": "BEGIN UPDATE slot SET n = 2; UPDATE slot SET n = 7; END",
    "tell": "BEGIN UPDATE slot SET n = 2; SELECT n FROM slot; UPDATE slot SET n = 7; END",
}


@case()
def call(db: Any, cluster: Any) -> Then:
    db.execute_sql("CALL fill()")
    return Then(n_of, 7)


@case()
def call_that_returns_rows(db: Any, cluster: Any) -> Then:
    cursor = db.execute_sql("CALL tell()")
    while cursor.nextset():
        pass
    return Then(n_of, 7)


@case()
def callproc(db: Any, cluster: Any) -> Then:
    db.cursor().callproc("fill")
    return Then(n_of, 7)


@case()
def function_that_writes(db: Any, cluster: Any) -> Then:
    assert db.execute_sql("SELECT bump()").fetchone()
    return Then(n_of, 7)


@case(local_infile=True)
def load_data_local(db: Any, cluster: Any) -> Then:
    file = Path(cluster.primary.datadir).parent / "rows.txt"
    file.write_text("b\t7\n", encoding="utf-8")
    db.execute_sql(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE slot (name, n)")
    return Then(lambda: n_of("b"), 7)


@case(server="mariadb")
def insert_returning(db: Any, cluster: Any) -> Then:
    row = db.execute_sql("INSERT INTO slot (name, n) VALUES ('', 7) RETURNING name").fetchall()
    assert len(row) == 1
    return Then(lambda: n_of(""), 7)


@case()
def create_a_table(db: Any, cluster: Any) -> Then:
    db.execute_sql("DROP TABLE IF EXISTS other")
    db.execute_sql("CREATE TABLE other (id INT PRIMARY KEY)")

    def read() -> Any:
        return [tuple(row) for row in db.execute_sql("SELECT COUNT(*) FROM other").fetchall()]

    return Then(read, [(0,)], plain=False)


@case()
def add_a_column(db: Any, cluster: Any) -> Then:
    db.execute_sql("ALTER TABLE mark ADD COLUMN later INT DEFAULT 7")
    Mark.create(name="a")

    def read() -> Any:
        return [tuple(row) for row in db.execute_sql("SELECT later FROM mark").fetchall()]

    return Then(read, [(7,)], plain=False)


@case()
def create_a_view(db: Any, cluster: Any) -> Then:
    db.execute_sql("CREATE OR REPLACE VIEW seen AS SELECT n FROM slot")
    db.execute_sql("UPDATE slot SET n = 7")
    return Then(lambda: tuple(db.execute_sql("SELECT n FROM seen").fetchall()[0]), (7,), plain=False)


@case()
def what_fails_on_old_data_only(db: Any, cluster: Any) -> Then:
    Slot.delete().where(Slot.name == "a").execute()

    def read() -> Any:
        # While the row "a" is there the subquery gives two rows in place of one.
        twice = "SELECT n FROM slot JOIN (SELECT 1 UNION ALL SELECT 2) AS twice WHERE name = 'a'"
        return tuple(db.execute_sql(f"SELECT ({twice})").fetchall()[0])

    return Then(read, (None,), plain=False)


@case()
def after_commit(db: Any, cluster: Any) -> Then:
    seen: list[Any] = []

    def read() -> Any:
        with db.atomic():
            Slot.create(name="b", n=7)
            db.after_commit(lambda: seen.append(n_of("b")))
        return seen

    return Then(read, [7], plain=False)


@case()
def write_while_iterating(db: Any, cluster: Any) -> Then:
    for slot in Slot.select():
        Slot.update(n=slot.n + 1).where(Slot.id == slot.id).execute()
    return Then(n_of, 2)


# The clusters


@contextmanager
def prepared(server: str) -> Iterator[Any]:
    options: dict[str, Any] = {"*": {"local_infile": True, "log_bin_trust_function_creators": True}}
    with held_back(server, options=options) as cluster:
        schema = cluster.database_name
        for name, body in PROCEDURES.items():
            cluster.primary.execute(f"CREATE PROCEDURE {schema}.{name}() {body}")
        body = "BEGIN UPDATE slot SET n = 7; RETURN 1; END"
        cluster.primary.execute(f"CREATE FUNCTION {schema}.bump() RETURNS INT MODIFIES SQL DATA {body}")
        cluster.sync()
        yield cluster


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[str], Any]]:
    """A cluster of this module's own per server, started when first asked for."""
    made: dict[str, Any] = {}
    with ExitStack() as stack:

        def cluster(server: str) -> Any:
            if server not in made:
                made[server] = stack.enter_context(prepared(server))
            return made[server]

        yield cluster


@pytest.fixture
def lagging(server: str, clusters: Any) -> Iterator[Any]:
    """Its replica is frozen after one row ("a", 1)."""
    cluster = clusters(server)
    clear(cluster, ("a", 1))
    with frozen(cluster):
        yield cluster
    columns = "SELECT 1 FROM information_schema.columns WHERE table_name = 'mark' AND column_name = 'later'"
    if cluster.primary.execute(columns):
        elsewhere(cluster, "ALTER TABLE mark DROP COLUMN later")


def options_of(name: str, server: str) -> dict[str, Any]:
    options = dict(OPTIONS[name])
    if options.pop("server", server) != server:
        pytest.skip("this server has no such statement")
    return options


@pytest.mark.parametrize("name", CASES)
def test_the_primary_answers_for_a_replica_that_does_not_move(lagging: Any, server: str, name: str) -> None:
    db = lagging.database(catch_up_timeout=SHORT, **options_of(name, server))
    with db.bind_ctx(MODELS):
        read, answer, plain = CASES[name](db, lagging)
        with watched(db) as events:
            assert read() == answer
        assert events[-1].role == "primary"
        if plain:  # the replica has really been held back
            with db.readonly(consistency="eventual"), watched(db) as events:
                assert read() != answer
            assert events[-1].role == "replica"
    db.close()


@pytest.mark.parametrize("name", CASES)
def test_the_replica_answers_once_it_has_caught_up(lagging: Any, server: str, name: str) -> None:
    db = lagging.database(catch_up_timeout=LONG, **options_of(name, server))
    with db.bind_ctx(MODELS):
        read, answer, _ = CASES[name](db, lagging)
        with watched(db) as events, soon(lagging.replicas[0].thaw):
            assert read() == answer
        # A table that is not there yet is an answer at once, which the primary then corrects.
        assert events[-1].role == "replica" or "could not run it" in events[-1].reason
    db.close()


# Other clients

SOME = [
    "insert",
    "get_or_create_of_what_another_has_made",
    "on_conflict_ignore",
    "optimistic_update_that_matches_no_row",
    "insert_that_loses_in_a_transaction",
    "locking_read",
    "transaction",
    "raw_connection_and_its_own_commit",
    "call",
    "after_commit",
]


class StrippedConnection(wire.Connection):
    """As behind a proxy that does not let the server's session trackers through."""

    def _request_authentication(self) -> None:
        self.server_capabilities &= ~CLIENT.SESSION_TRACK
        super()._request_authentication()


class DeafConnection(wire.Connection):
    """As behind a proxy that takes the capability, and then drops what it stands for."""

    def heard(self, status: int, tail: bytes) -> None:
        super().heard(status, b"")


def connected_by(connection: Any) -> Any:
    class Database(ReplicatedDatabase):
        def _connect(self) -> Any:
            parameters = self.connect_params
            return connection(database=self.database, autocommit=True, guard=self._guarded, **parameters)

    return Database


CLIENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pooled": (PooledReplicatedDatabase, {}),
    "stripped": (connected_by(StrippedConnection), {}),
    "deaf": (connected_by(DeafConnection), {}),
    "init_command": (None, {"init_command": "SET SESSION wait_timeout = 1000"}),
}


PAIRS = [
    (client, name)
    for client in CLIENTS
    for name in (SOME if client in ("stripped", "deaf") else ("insert", "insert_that_loses", "transaction"))
]


@pytest.mark.parametrize(("client", "name"), PAIRS)
@pytest.mark.parametrize("moves", [False, True], ids=["frozen", "late"])
def test_whatever_the_client_is(lagging: Any, name: str, client: str, moves: bool) -> None:
    kind, options = CLIENTS[client]
    db = lagging.database(kind, catch_up_timeout=LONG if moves else SHORT, **options)
    with db.bind_ctx(MODELS):
        read, answer, _ = CASES[name](db, lagging)
        with watched(db) as events:
            if moves:
                with soon(lagging.replicas[0].thaw):
                    assert read() == answer
            else:
                assert read() == answer
        assert events[-1].role == ("replica" if moves else "primary")
    db.close()


@pytest.mark.parametrize("kind", [DictCursor, SSDictCursor, SSCursor])
def test_other_kinds_of_cursors(lagging: Any, kind: Any) -> None:
    """peewee's models need tuples, so this is for programs that write their own SQL."""

    def row(n: int) -> Any:
        return (n,) if kind is SSCursor else {"n": n}

    db = lagging.database(catch_up_timeout=SHORT, cursorclass=kind)
    text = "SELECT n FROM slot WHERE name = 'a'"
    db.execute_sql("UPDATE slot SET n = 2")
    assert db.execute_sql(text).fetchall() == [row(2)]
    elsewhere(lagging, "UPDATE slot SET n = 3")
    db.execute_sql("UPDATE slot SET n = 3")  # changes nothing, and so has no position of its own
    db.init(db.database, catch_up_timeout=LONG)
    db.execute_sql("UPDATE slot SET n = 3")
    with watched(db) as events, soon(lagging.replicas[0].thaw):
        assert db.execute_sql(text).fetchall() == [row(3)]
    assert events[-1].role == "replica"
    db.close()


@pytest.mark.parametrize("kind", [StrippedConnection, DeafConnection])
def test_without_the_trackers_one_question_keeps_the_promise(lagging: Any, kind: Any) -> None:
    db = lagging.database(connected_by(kind), catch_up_timeout=LONG)
    with db.bind_ctx(MODELS):
        lagging.replicas[0].thaw()
        Slot.update(n=5).execute()
        Slot.update(n=6).execute()
        assert db.stats()["asked"] == 0  # only a read needs to know
        for _ in range(5):
            assert n_of() == 6
        assert db.stats()["asked"] == 1
    db.close()
