"""Every way to change data, and every way to fail at it, followed at once by a read.

In each case the only replica is held back. Either it stays so, and the read has to come from the primary; or
it begins to move while the read waits, and the replica has to serve it, with the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import DictCursor, SSCursor, SSDictCursor
from support.clusters.lagging import LONG, MODELS, SHORT, Slot, elsewhere, frozen, n_of, soon, watched
from support.forms import threads_only
from support.write_cases import CASES, OPTIONS

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.servers.wire import connection as wire

pytestmark = pytest.mark.usefixtures("form")

ROUTINES = {
    "PROCEDURE fill()": "BEGIN UPDATE slot SET n = 2; UPDATE slot SET n = 7; END",
    "PROCEDURE tell()": "BEGIN UPDATE slot SET n = 2; SELECT n FROM slot; UPDATE slot SET n = 7; END",
    "FUNCTION bump()": "RETURNS INT MODIFIES SQL DATA BEGIN UPDATE slot SET n = 7; RETURN 1; END",
}


@pytest.fixture
def lagging(pair: Any) -> Iterator[Any]:
    """`pair` with the routines that cases call, its replica frozen."""
    if not pair.primary.execute("SELECT 1 FROM information_schema.routines WHERE routine_name = 'bump'"):
        for name, body in ROUTINES.items():
            kind, routine = name.split()
            pair.primary.execute(f"CREATE {kind} {pair.database_name}.{routine} {body}")
        pair.sync()
    with frozen(pair):
        yield pair
    columns = "SELECT 1 FROM information_schema.columns WHERE table_name = 'mark' AND column_name = 'later'"
    if pair.primary.execute(columns):
        elsewhere(pair, "ALTER TABLE mark DROP COLUMN later")


def options_of(name: str, server: str) -> dict[str, Any]:
    options = dict(OPTIONS[name])
    if options.pop("server", server) != server:
        pytest.skip("this server has no such statement")
    return options


@pytest.mark.lesson(15, 16, 19)
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


@pytest.mark.lesson(16)
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

    def statement_ended(self, status: int, tail: bytes) -> None:
        super().statement_ended(status, b"")


def connected_by(connection: Any) -> Any:
    class Database(ReplicatedDatabase):
        def _connect(self) -> Any:
            parameters = self.connect_params
            return connection(
                database=self.database, autocommit=True, guard=self.opening.guarded, **parameters
            )

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


@pytest.mark.lesson(38)
@pytest.mark.parametrize(("client", "name"), PAIRS)
@pytest.mark.parametrize("moves", [False, True], ids=["frozen", "late"])
def test_the_promise_holds_for_every_kind_of_client(
    lagging: Any, name: str, client: str, moves: bool
) -> None:
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


@threads_only("aiomysql has classes of cursors of its own")
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


@pytest.mark.lesson(38)
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
