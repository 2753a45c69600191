"""What is known of a node's progress, and one read's way to a node that has come far enough."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency import catch_up, progress
from peewee_replicas.consistency.catch_up import CatchUp
from peewee_replicas.consistency.delay import Since
from peewee_replicas.consistency.progress import Progress
from peewee_replicas.positions import MariaDBPosition, MySQLPosition
from peewee_replicas.servers import mariadb

OTHER = MySQLPosition.parse("00000000-0000-0000-0000-0000000000aa:1-3")


def gtid(text: str) -> MariaDBPosition:
    return MariaDBPosition.parse(text)


def replica(**values: Any) -> Any:
    return SimpleNamespace(**{"progress": Progress(), "is_primary": False, "role": None, **values})


def connection(**values: Any) -> Any:
    return SimpleNamespace(**{"server_identity": None, "dialect": mariadb, "read_timeout": None, **values})


class Ages:
    """Says that what the read must see was written at a time."""

    def __init__(self, at: float) -> None:
        self.at = at

    def seen_since(self, frame: Any) -> Since:
        return Since(self.at, "written")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(Clock, "monotonic", lambda: now.seconds)
    return now


# Progress


def test_nothing_is_known_at_first() -> None:
    assert not Progress().covers(gtid("0-1-1"), "a")
    assert not Progress().covers(gtid(""), None)


def test_what_is_known_belongs_to_the_server_that_was_met() -> None:
    node = Progress()
    node.learn("a", gtid("0-1-5"), fresh=True)
    assert node.covers(gtid("0-1-5"), "a")
    assert not node.covers(gtid("0-1-6"), "a")
    assert not node.covers(gtid("0-1-5"), "b")
    assert not node.covers(gtid("0-1-5"), None)  # a connection that has not been asked
    assert not node.covers(OTHER, "a")


@pytest.mark.parametrize("fresh", [False, True])
def test_another_server_begins_anew(fresh: bool) -> None:
    node = Progress()
    node.learn("a", gtid("0-1-5"), fresh=True)
    node.stall(0.0)
    node.learn("b", gtid("0-1-2"), fresh=fresh)
    assert node.covers(gtid("0-1-2"), "b")
    assert not node.covers(gtid("0-1-5"), "b")
    assert node.stalled is None


def test_the_same_server_only_goes_forward() -> None:
    node = Progress()
    node.learn("a", gtid("0-1-5"), fresh=True)
    node.learn("a", gtid("0-1-3"), fresh=False)  # an answer that was overtaken
    assert node.covers(gtid("0-1-5"), "a")
    node.learn("a", gtid("1-1-1"), fresh=False)
    assert node.covers(gtid("0-1-5,1-1-1"), "a")


def test_a_fresh_connection_that_finds_it_behind_begins_anew() -> None:
    node = Progress()
    node.learn("a", gtid("0-1-5"), fresh=True)
    node.learn("a", gtid("0-1-3"), fresh=True)
    assert not node.covers(gtid("0-1-4"), "a")
    assert node.covers(gtid("0-1-3"), "a")
    node.learn("a", gtid("0-1-9"), fresh=True)
    assert node.covers(gtid("0-1-9"), "a")


def test_it_has_stalled_until_it_moves() -> None:
    node = Progress()
    node.learn("a", gtid("0-1-5"), fresh=True)
    node.stall(10.0)
    assert node.stalled is not None
    node.learn("a", gtid("0-1-5"), fresh=False)
    assert node.stalled is not None
    node.learn("a", gtid("0-1-6"), fresh=False)
    assert node.stalled is None


# One read


def test_a_primary_is_never_waited_for() -> None:
    assert CatchUp(gtid("0-1-5"), 1.0).known(replica(is_primary=True), None)


def test_the_time_is_spent_once_over_all_nodes(clock: Any) -> None:
    way = CatchUp(gtid("0-1-5"), 1.0)
    first, second, third = replica(), replica(), replica()
    conn = connection()
    assert "MASTER_GTID_WAIT(_latin1'0-1-5', 1.000)" in way.query(first, conn)
    clock.seconds += 0.6
    assert not way.learn(first, conn, (-1, "a", "0-1-4"))
    assert "0.400)" in way.query(second, connection())
    clock.seconds += 0.4
    assert not way.learn(second, connection(), (-1, "b", "0-1-4"))
    assert "0.000)" in way.query(third, connection())  # it may be there all the same


def test_a_replica_that_timed_out_is_not_waited_for_again(clock: Any) -> None:
    node, conn = replica(), connection()
    way = CatchUp(gtid("0-1-5"), 1.0)
    assert way.query(node, conn)
    clock.seconds += 1.0
    assert not way.learn(node, conn, (-1, "a", "0-1-4"))
    again = CatchUp(gtid("0-1-5"), 1.0)
    assert again.query(node, conn) == ""
    clock.seconds += progress.STALL_PAUSE
    assert "0.000)" in again.query(node, conn)  # asked, and not waited for
    assert not again.learn(node, conn, (-1, "a", "0-1-4"))
    assert again.query(node, conn) == ""
    clock.seconds += progress.STALL_PAUSE
    assert again.query(node, conn)
    again.learn(node, conn, (0, "a", "0-1-5"))
    assert "1.000)" in CatchUp(gtid("0-1-6"), 1.0).query(node, conn)  # it has moved


def test_a_look_without_a_wait_is_no_stall(clock: Any) -> None:
    node, conn = replica(), connection()
    for _ in range(2):
        look = CatchUp(gtid("0-1-5"), 0.0)
        assert "0.000)" in look.query(node, conn)
        assert not look.learn(node, conn, (-1, "a", "0-1-4"))
    assert node.progress.stalled is None


def test_one_that_was_seen_to_move_is_waited_for(clock: Any) -> None:
    node, conn = replica(), connection()
    for at in ("0-1-3", "0-1-4"):
        clock.seconds += progress.STALL_PAUSE
        way = CatchUp(gtid("0-1-5"), 1.0)
        assert way.query(node, conn)
        clock.seconds += 1.0
        assert not way.learn(node, conn, (-1, "a", at))
    assert "1.000)" in CatchUp(gtid("0-1-5"), 1.0).query(node, conn)


def test_no_more_than_so_many_wait(clock: Any) -> None:
    node = replica()
    node.progress.waiters.update(range(catch_up.WAITERS))
    assert CatchUp(gtid("0-1-5"), 1.0).query(node, connection()) == ""
    node.progress.waiters.pop()
    assert CatchUp(gtid("0-1-5"), 1.0).query(node, connection())


def test_a_wait_ends_before_the_clients_own_timeout(clock: Any) -> None:
    text = CatchUp(gtid("0-1-5"), 30.0).query(replica(), connection(read_timeout=2))
    assert "1.000)" in text


def test_what_an_answer_says_about_progress(clock: Any) -> None:
    node, conn = replica(), connection()
    way = CatchUp(gtid("0-1-5"), 1.0)
    way.query(node, conn)
    assert way.learn(node, conn, (0, "a", "0-1-7,1-1-3"))
    assert conn.server_identity == "a"
    assert way.known(node, "a")
    assert node.progress.covers(gtid("0-1-7,1-1-3"), "a")


@pytest.mark.parametrize("answer", [None, ValueError("1941"), (None, "a", "0-1-4"), (-1, "a", None)])
def test_an_answer_that_is_no_yes_is_a_no(clock: Any, answer: Any) -> None:
    node, conn = replica(), connection()
    way = CatchUp(gtid("0-1-5"), 1.0)
    way.query(node, conn)
    assert not way.learn(node, conn, answer)
    assert not way.known(node, "a")


def test_a_replica_that_was_late_is_passed_over_for_one_that_was_not(clock: Any) -> None:
    late, other = replica(), replica()
    usable = (late, other)
    written = Ages(clock.seconds)
    assert CatchUp(gtid("0-1-5"), 1.0, written).prefer(late, usable) is late  # nothing is known against it
    late.progress.delay.missed(0.1, clock.seconds)
    assert CatchUp(gtid("0-1-5"), 1.0, written).prefer(late, usable) is other
    other.progress.delay.missed(0.2, clock.seconds)
    assert CatchUp(gtid("0-1-5"), 1.0, written).prefer(late, usable) is late  # nobody is better
    assert CatchUp(gtid("0-1-5"), 1.0, written).prefer(other, usable) is late
    other.progress.learn("b", gtid("0-1-5"), fresh=True)
    assert CatchUp(gtid("0-1-5"), 1.0, written).prefer(late, usable) is other  # known to be there
    clock.seconds += 3600
    assert CatchUp(gtid("0-1-5"), 1.0, written).prefer(late, usable) is late


def test_the_clock_is_one_that_never_goes_back() -> None:
    before = time.monotonic()
    way = CatchUp(gtid("0-1-5"), 1.0)
    assert way.query(replica(), connection())
    assert time.monotonic() >= before


def test_a_node_found_to_be_the_primary_is_never_waited_on() -> None:
    node, conn = replica(role="primary"), connection()
    assert CatchUp(gtid("0-1-5"), 1.0).query(node, conn) == mariadb.wait("0-1-5", 0.0)
