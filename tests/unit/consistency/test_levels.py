"""Obligations of contexts, held by a database, without a server."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from support.databases.ended_statements import statement

from peewee_replicas import bookmarks
from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency.catch_up import CatchUp
from peewee_replicas.consistency.levels import ASK, NOTHING, Consistency
from peewee_replicas.consistency.progress import Progress
from peewee_replicas.consistency.sessions import Session
from peewee_replicas.events import Counters
from peewee_replicas.positions import MariaDBPosition, Position, Unmeasured
from peewee_replicas.scopes.frames import Frame
from peewee_replicas.scopes.scope import Scope
from peewee_replicas.servers import mariadb
from peewee_replicas.servers.error_meanings import NO_CONNECTION, meaning


def gtid(text: str) -> MariaDBPosition:
    return MariaDBPosition.parse(text)


class Primary:
    """The primary, as it answers questions about its position, or cannot be reached."""

    def __init__(self) -> None:
        self.position: str | None = "0-1-100"
        self.down: Exception | None = None
        self.lost: MariaDBPosition | None = None
        self.questions = 0
        self.without_gtids = "log_bin is OFF"

    def may_ask(self) -> bool:
        return True

    def asked(self, answered: bool) -> None:
        pass

    def current(self) -> MariaDBPosition | None:
        self.questions += 1
        if self.down is not None:
            raise self.down
        return None if self.position is None else gtid(self.position)

    def missing(self, positions: Sequence[Position]) -> list[Position | None]:
        if self.down is not None:
            raise self.down
        return [self.lost if self.lost is not None and one.covers(self.lost) else None for one in positions]

    def is_unreachable(self, exc: BaseException) -> bool:
        return meaning(type(exc).__name__, exc.args) in NO_CONNECTION


OWNER: Any = SimpleNamespace(units=None, waits_for_itself=lambda: False)


_ports = itertools.count()


def consistency(level: str = "session", sticky_seconds: float = 60.0, endpoint: str = "") -> Consistency:
    found = Consistency(OWNER, level, 0.5, sticky_seconds, Counters("asked", "unasked"))
    found.attach(Primary(), endpoint or str(next(_ports)))
    return found


def in_thread(work: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def asked(found: Consistency) -> int:
    return found.primary.questions  # type: ignore[attr-defined]  # it is a test's own


def test_without_writes_a_read_needs_nothing() -> None:
    found = consistency()
    assert found.needs(None) == NOTHING
    assert found.need_outside_scopes() is None
    assert asked(found) == 0


def test_a_read_needs_the_position_that_a_write_reported() -> None:
    found = consistency()
    statement(found, "INSERT INTO t", "0-1-5")
    assert found.need_outside_scopes() is ASK  # the first read of a unit of work
    assert found.needs(None).position == gtid("0-1-5")
    assert found.need_outside_scopes() == gtid("0-1-5")
    statement(found, "INSERT INTO t", "0-1-7")
    assert found.needs(None).position == gtid("0-1-7")
    assert asked(found) == 0


def test_a_position_that_was_not_reported_is_asked_for_once() -> None:
    found = consistency()
    statement(found, "INSERT")
    assert found.need_outside_scopes() is ASK
    for _ in range(3):
        assert found.needs(None).position == gtid("0-1-100")
    assert asked(found) == 1
    statement(found, "INSERT", succeeded=False)
    found.needs(None)
    assert asked(found) == 2


@pytest.mark.parametrize(
    ("level", "own", "later", "earlier"),
    [
        ("session", True, True, False),
        ("process", True, True, True),
        ("eventual", False, False, False),
    ],
)
def test_whose_writes_each_level_covers(level: str, own: bool, later: bool, earlier: bool) -> None:
    """Those of this context; of others, those from before it began, or at level process all."""
    found = consistency(level)
    begun, written = threading.Event(), threading.Event()

    def read_before_and_after() -> Position | None:
        found.needs(None)
        begun.set()
        written.wait(10)
        return found.needs(None).position

    def write() -> None:
        begun.wait(10)
        statement(found, "INSERT INTO t", "0-1-5")
        written.set()

    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(read_before_and_after)
        write()
        expected = {True: gtid("0-1-5"), False: None}
        assert before.result(10) == expected[earlier]
    assert found.needs(None).position == expected[own]
    assert in_thread(lambda: found.needs(None).position) == expected[later]


def test_what_begins_while_the_primary_moves_sees_what_was_written_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = consistency()
    statement(found, "INSERT …", "0-1-7")
    seen: list[Any] = []
    take_over = Session.take_over

    def slowly(self: Session, other: Session) -> None:
        if threading.current_thread() is threading.main_thread():
            seen.append(in_thread(lambda: found.needs(None).position))  # a unit of work begins
        take_over(self, other)

    monkeypatch.setattr(Session, "take_over", slowly)
    found.follow_primary(str(next(_ports)))
    seen.append(in_thread(lambda: found.needs(None).position))
    assert seen == [gtid("0-1-7")] * 2


def test_what_is_written_while_the_primary_moves_is_seen_by_later_units_of_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = consistency()
    old = found.history
    take_over = Session.take_over

    def then_written(self: Session, other: Session) -> None:
        take_over(self, other)
        if other is old.session and threading.current_thread() is threading.main_thread():
            in_thread(lambda: statement(found, "INSERT …", "0-1-8"))  # acknowledged by the old primary

    monkeypatch.setattr(Session, "take_over", then_written)
    found.follow_primary(str(next(_ports)))
    assert in_thread(lambda: found.needs(None).position) == gtid("0-1-8")


def test_strong_asks_for_every_read() -> None:
    found = consistency("strong")
    primary: Any = found.primary
    for n in (1, 2, 3):
        primary.position = f"0-1-{n}"
        assert found.needs(None).position == gtid(f"0-1-{n}")
    assert asked(found) == 3
    primary.down = peewee.OperationalError(2003, "down")
    with pytest.raises(peewee.OperationalError):
        found.needs(None)


def test_a_level_of_the_scope_comes_before_the_databases() -> None:
    found = consistency("strong")
    statement(found, "INSERT", "0-1-5")
    assert found.needs(Frame(OWNER, "readonly", level="eventual")) == NOTHING
    frame = Frame(OWNER, "readonly", level="session")
    assert found.needs(frame).position == gtid("0-1-5")
    assert found.needs(Frame(OWNER, "readonly")).position == gtid("0-1-100")


def causal(session: Session) -> Any:
    return Scope(None, lambda: Frame(OWNER, "causal", session=session))


@pytest.mark.parametrize("level", ["session", "process"])
def test_a_bookmark_counts_at_every_level_that_promises_something(level: str) -> None:
    found = consistency(level)
    with causal(Session(gtid("0-1-9"))):
        found.needs(None)
        in_thread(lambda: statement(found, "INSERT INTO t", "1-1-5"))
        position: Any = found.needs(None).position
        assert position.covers(gtid("0-1-9"))
        assert position.covers(gtid("1-1-5")) is (level == "process")


def test_the_writes_of_a_causal_session_are_its_own() -> None:
    found = consistency()
    found.needs(None)
    session = Session()
    with causal(session):
        statement(found, "INSERT", "0-1-5")
        assert found.needs(None).position == gtid("0-1-5")
    assert session.seen == gtid("0-1-5")
    assert found.needs(None) == NOTHING  # it was not entered from this thread's own session


def test_a_scope_that_had_to_move_needs_where_it_moved_to() -> None:
    for level in ("eventual", "session", "process"):
        found = consistency(level)
        frame = Frame(OWNER, "readonly")
        frame.must_reach = gtid("0-1-50")
        with Scope(None, lambda frame=frame: frame):
            assert found.needs(frame).position == gtid("0-1-50")
            statement(found, "INSERT", "1-1-1")
            covered = found.needs(frame).position
        assert covered is not None
        assert covered.covers(gtid("0-1-50"))
        assert covered.covers(gtid("1-1-1")) is (level != "eventual")


def test_a_primary_that_cannot_be_asked_is_said_once_and_stays_owed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = consistency()
    primary: Any = found.primary
    statement(found, "INSERT", "0-1-5")
    statement(found, "INSERT", succeeded=False)
    primary.down = peewee.OperationalError(2003, "refused by 127.0.0.1")
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        for _ in range(3):
            assert found.needs(None).position == gtid("0-1-5")
    assert found.counters.snapshot()["unasked"] == 3
    assert len([record for record in caplog.records if "refused by 127.0.0.1" in record.message]) == 1
    primary.down = None
    assert found.needs(None).position == gtid("0-1-100")
    assert not found.own_session().owes


def test_where_the_primary_refuses_to_tell_its_position_reads_stay_on_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = consistency()
    primary: Any = found.primary
    statement(found, "INSERT", succeeded=False)
    primary.down = peewee.ProgrammingError(1227, "access denied")
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        for _ in range(3):
            need = found.needs(None)
            assert "does not report its position" in need.primary
            assert need.cause == "position_unknown"
    assert asked(found) == 1  # it would say the same again
    (record,) = caplog.records
    assert found.history.endpoint in record.getMessage()
    assert "privilege (1227" in record.getMessage()
    mark = found.bookmark(found.session(), "app", 0.0)
    assert mark is not None
    assert bookmarks.decode(mark, 0.0, 1.0).position is None  # whatever the primary has when it is read
    primary.down = None
    later = Clock.monotonic() + 61  # the user may have been given the right by then
    monkeypatch.setattr(Clock, "monotonic", lambda: later)
    assert found.needs(None).position == gtid("0-1-100")


def test_a_primary_without_the_variables_of_gtids_keeps_none() -> None:
    found = consistency()
    primary: Any = found.primary
    statement(found, "INSERT", succeeded=False)
    primary.down = peewee.ProgrammingError(1193, "no such variable")
    for _ in range(3):
        assert "keeps no GTIDs" in found.needs(None).primary
    assert asked(found) == 1


def test_a_primary_that_reports_positions_keeps_gtids_whatever_a_proxy_says_of_the_variable() -> None:
    found = consistency()
    primary: Any = found.primary
    statement(found, "INSERT", position=gtid("0-1-5"))
    statement(found, "INSERT", succeeded=False)
    primary.down = peewee.ProgrammingError(1193, "no such variable")
    for _ in range(3):
        assert "does not report its position" in found.needs(None).primary


def test_without_gtids_reads_stay_on_the_primary_and_say_why(caplog: pytest.LogCaptureFixture) -> None:
    found = consistency()
    primary: Any = found.primary
    primary.position = None
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        for _ in range(2):
            statement(found, "INSERT")
            needs = found.needs(None)
            assert needs.position is None
            assert "no GTIDs" in needs.primary
            assert "60.0 s" in needs.primary
    (record,) = caplog.records
    assert f"the primary ({found.history.endpoint}) keeps no GTIDs (log_bin is OFF)" in record.getMessage()
    strong = consistency("strong")
    strong.primary = primary
    assert strong.needs(None).primary


def test_without_gtids_the_read_that_waits_so_does_not_make_it_longer() -> None:
    found = consistency(sticky_seconds=60.0)
    primary: Any = found.primary
    primary.position = None
    statement(found, "INSERT")
    needs = found.needs(None)
    assert needs.excused
    with found.excusing(needs.excused):
        statement(found, "SELECT")
    assert not found.own_session().owes
    statement(found, "SELECT")  # a read that the program sent there
    assert found.own_session().owes
    with causal(Session()):
        statement(found, "INSERT")
        assert not found.needs(None).excused


def test_without_gtids_members_of_a_cluster_may_serve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Their reads wait by themselves, so no other node will do; how that is logged is not decided here."""
    monkeypatch.setattr(OWNER, "waits_for_itself", lambda: True)
    for level in ("session", "process", "strong"):
        found = consistency(level)
        primary: Any = found.primary
        primary.position = None
        statement(found, "INSERT")
        assert found.needs(None).position is Unmeasured.WRITES
        assert not found.needs(None).primary
        assert not found.stays(None)
        wait = CatchUp(Unmeasured.WRITES, 0.5)
        node: Any = SimpleNamespace(progress=Progress(), is_primary=False, role="replica")
        conn: Any = SimpleNamespace(
            server_identity="s", cluster_waits=False, dialect=mariadb, read_timeout=None
        )
        assert not wait.shown_by(node, conn)
        assert not wait.query(node, conn)
        conn.cluster_waits = True
        assert wait.shown_by(node, conn)
    assert not caplog.records


def test_without_gtids_the_window_ends() -> None:
    found = consistency(sticky_seconds=0.0)
    primary: Any = found.primary
    primary.position = None
    statement(found, "INSERT")
    assert found.needs(None) == NOTHING


@pytest.mark.parametrize("how", [{"executing": "read"}, {"guarded": True}])
def test_what_one_unit_of_work_reads_on_the_primary_obliges_itself_alone(how: dict[str, Any]) -> None:
    found = consistency()
    statement(found, "SELECT n FROM t", **how)
    assert in_thread(lambda: found.needs(None)) == NOTHING
    assert found.needs(None).position == gtid("0-1-100")


def test_what_may_have_been_written_unreported_obliges_every_later_unit_of_work() -> None:
    found = consistency()
    statement(found, "SELECT f(n) FROM t", executing="unknown")
    assert in_thread(lambda: found.needs(None)).position == gtid("0-1-100")
