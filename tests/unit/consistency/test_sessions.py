"""What a statement on the primary obliges its context to, as a table; and sessions that hold it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forms.threads import in_threads

from peewee_replicas.consistency.sessions import LONGEST, SHORT, Session, ended
from peewee_replicas.positions import MariaDBPosition, MySQLPosition

# The statement; succeeded, reported, was open, is open, had read; covers reads -> owes, has read.
Y, N = True, False
STATEMENTS: list[tuple[str, tuple[bool, ...], bool, tuple[bool, bool]]] = [
    # autocommit
    ("INSERT INTO t VALUES (1)", (Y, Y, N, N, N), N, (N, N)),
    ("INSERT IGNORE INTO t VALUES (1)", (Y, N, N, N, N), N, (Y, N)),
    ("INSERT INTO t VALUES (1)", (N, N, N, N, N), N, (Y, N)),
    ("UPDATE t SET n = 1", (Y, N, N, N, N), Y, (Y, N)),
    ("SELECT 1", (Y, N, N, N, N), N, (Y, N)),
    ("SELECT 1 FOR UPDATE", (Y, N, N, N, N), N, (Y, N)),
    ("CALL p()", (Y, N, N, N, N), N, (Y, N)),
    ("/* x */ INSERT INTO t VALUES (1)", (Y, N, N, N, N), N, (Y, N)),
    ("(SELECT 1)", (Y, N, N, N, N), N, (Y, N)),
    ("", (Y, N, N, N, N), N, (Y, N)),
    ("SET NAMES utf8mb4", (Y, N, N, N, N), N, (N, N)),
    ("USE other", (Y, N, N, N, N), N, (N, N)),
    ("  set x = 1", (Y, N, N, N, N), N, (N, N)),
    ("SET x = 1", (N, N, N, N, N), N, (Y, N)),
    ("UNLOCK TABLES", (Y, N, N, N, N), N, (N, N)),
    ("SETTLE", (Y, N, N, N, N), N, (Y, N)),
    # inside a transaction nothing is owed yet
    ("BEGIN", (Y, N, N, Y, N), N, (N, N)),
    ("INSERT INTO t VALUES (1)", (Y, N, Y, Y, N), N, (N, N)),
    ("SAVEPOINT s", (Y, N, Y, Y, N), N, (N, N)),
    ("RELEASE SAVEPOINT s", (Y, N, Y, Y, Y), N, (N, Y)),
    ("SELECT 1", (Y, N, Y, Y, N), N, (N, Y)),
    ("UPDATE t SET n = 1", (N, N, Y, Y, N), N, (N, Y)),
    ("INSERT INTO t VALUES (1)", (Y, N, Y, Y, Y), N, (N, Y)),
    ("WITH x AS (SELECT 1) UPDATE t SET n = 1", (Y, N, Y, Y, N), N, (N, Y)),
    ("ROLLBACK TO SAVEPOINT s", (Y, N, Y, Y, N), N, (N, Y)),
    # its end
    ("COMMIT", (Y, Y, Y, N, N), N, (N, N)),
    ("COMMIT", (Y, Y, Y, N, N), Y, (N, N)),
    ("COMMIT", (Y, Y, Y, N, Y), N, (Y, N)),
    ("COMMIT", (Y, Y, Y, N, Y), Y, (N, N)),
    ("COMMIT", (Y, N, Y, N, N), N, (Y, N)),
    ("COMMIT", (Y, N, Y, N, Y), Y, (Y, N)),
    ("COMMIT", (N, N, Y, N, N), Y, (Y, N)),
    ("ROLLBACK", (Y, N, Y, N, N), Y, (Y, N)),
    ("SET autocommit = 1", (Y, N, Y, N, N), Y, (Y, N)),
    ("CREATE TABLE u (n INT)", (Y, Y, Y, N, N), N, (N, N)),
    ("CREATE TABLE u (n INT)", (N, N, Y, N, Y), N, (Y, N)),
    # a BEGIN that commits what was open
    ("BEGIN", (Y, Y, Y, Y, N), N, (N, N)),
    ("BEGIN", (Y, Y, Y, Y, Y), N, (Y, N)),
    ("BEGIN", (Y, N, Y, Y, Y), N, (N, Y)),
]


def outcome(text: Any, flags: tuple[bool, ...], covers: bool) -> tuple[bool, bool]:
    succeeded, reported, was_open, is_open, had_read = flags
    found = ended(
        text,
        succeeded=succeeded,
        reported=reported,
        was_open=was_open,
        is_open=is_open,
        transaction_read=had_read,
        commit_covers_reads=covers,
    )
    return found.owes, found.transaction_read


@pytest.mark.parametrize(("text", "flags", "covers", "expected"), STATEMENTS)
def test_what_a_statement_leaves(
    text: str, flags: tuple[bool, ...], covers: bool, expected: tuple[bool, bool]
) -> None:
    assert outcome(text, flags, covers) == expected
    assert outcome(text.encode(), flags, covers) == expected


TEXTS = ["SELECT 1", "INSERT INTO t VALUES (1)", "COMMIT", "ROLLBACK", "BEGIN", "SET x = 1", "", "-- x"]


@pytest.mark.parametrize("text", TEXTS)
def test_what_every_statement_obliges_to(text: str) -> None:
    for flags in product((False, True), repeat=5):
        succeeded, reported, was_open, is_open, had_read = flags
        if reported and not succeeded:
            continue  # a failure reports nothing
        for covers in (False, True):
            owes, has_read = outcome(text, flags, covers)
            if not is_open:
                assert not has_read
                if not succeeded:
                    assert owes  # a failure has seen something, or nobody knows what it did
                if was_open and not reported:
                    assert owes
                if text == "SELECT 1" and not reported:
                    assert owes
            if is_open and had_read and not reported:
                assert has_read  # nothing in a transaction takes back that it has read
            if is_open and not succeeded:
                assert has_read
            if covers:  # never more than where reads are not covered
                assert owes <= outcome(text, flags, False)[0]


# Sessions


def gtid(text: str) -> MariaDBPosition:
    return MariaDBPosition.parse(text)


def test_a_session_sees_more_and_more() -> None:
    session = Session()
    assert session.seen is None
    session.saw(gtid("0-1-5"))
    session.saw(gtid("0-1-3"))
    session.saw(gtid("1-1-2"))
    assert session.seen == gtid("0-1-5,1-1-2")


def test_another_kind_of_server_begins_anew() -> None:
    session = Session(gtid("0-1-5"))
    here = MySQLPosition.parse("00000000-0000-0000-0000-0000000000aa:1-3")
    session.saw(here)
    assert session.seen == here


def test_an_obligation_lasts_until_the_position_is_known() -> None:
    session = Session()
    assert not session.owed
    session.owe()
    assert session.owed
    session.pay(session.debts)
    assert not session.owed


def test_an_obligation_that_arises_while_the_primary_is_asked_stays() -> None:
    session = Session()
    session.owe()
    asked_for = session.debts
    session.owe()
    session.pay(asked_for)
    assert session.owed
    session.pay(session.debts)
    session.pay(asked_for)  # an answer that comes late takes nothing back
    assert not session.owed


def test_taking_over_the_obligations_of_another() -> None:
    inner, outer = Session(gtid("0-1-5")), Session(gtid("1-1-1"))
    inner.owe()
    inner.stick(10.0)
    outer.take_over(inner)
    assert outer.seen == gtid("0-1-5,1-1-1")
    assert outer.owed
    assert outer.sticks(9.0)
    assert inner.seen == gtid("0-1-5")  # itself as it was
    quiet = Session()
    quiet.take_over(Session())
    assert quiet.seen is None
    assert not quiet.owed
    assert not quiet.sticks(0.0)


def test_how_long_reads_stick_to_the_primary() -> None:
    session = Session()
    session.stick(10.0)
    session.stick(5.0)  # never shorter
    assert session.sticks(9.9)
    assert not session.sticks(10.0)
    assert not session.sticky_until


def test_no_obligation_is_lost_under_threads() -> None:
    session, each, workers = Session(), 2000, 4

    def owe() -> None:
        for _ in range(each):
            session.owe()

    in_threads(workers, owe)
    assert session.debts == each * workers


class _Owner:
    def __init__(self, *known: Any) -> None:
        self.known = list(known)

    def known_positions(self) -> list[Any]:
        return self.known


_SOURCE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def _every_other(count: int, session: Session, owner: _Owner) -> None:
    for number in range(1, 2 * count, 2):
        session.saw(MySQLPosition.parse(f"{_SOURCE}:{number}"))
        session.shorten(owner)


def test_a_position_with_the_gaps_of_others_writes_is_kept_short_by_what_replicas_have() -> None:
    session = Session()
    reached = MySQLPosition.parse(f"{_SOURCE}:1-1900")
    _every_other(1000, session, _Owner(None, reached))
    assert isinstance(session.seen, MySQLPosition)
    assert session.seen.size < 2 * SHORT + 50
    assert not session.owed
    own = MySQLPosition.parse(f"{_SOURCE}:" + ":".join(str(number) for number in range(1, 2000, 2)))
    assert session.seen.covers(own)
    assert reached.merge(own).covers(session.seen)


def test_a_position_that_nobody_can_shorten_is_given_up_for_the_primarys_own() -> None:
    session = Session()
    _every_other(LONGEST + 10, session, _Owner(None))
    assert session.owed
    assert session.seen is not None
    assert session.seen.size <= 10


_NUMBERS = st.integers(1, 40)


@given(st.lists(_NUMBERS, max_size=8), st.lists(_NUMBERS, max_size=8), st.lists(_NUMBERS, max_size=12))
def test_two_sessions_that_see_the_same_see_what_each_would_alone(
    mine: list[int], others: list[int], both: list[int]
) -> None:
    own, shared, alone = Session(), Session(), Session()
    for number in mine:
        own.saw(MySQLPosition.parse(f"{_SOURCE}:{number}"))
    for number in others:
        shared.saw(MySQLPosition.parse(f"{_SOURCE}:{number}"))
        alone.saw(MySQLPosition.parse(f"{_SOURCE}:{number}"))
    for number in both:
        position = MySQLPosition.parse(f"{_SOURCE}:{number}")
        before = own.seen
        own.saw(position)
        shared.saw_too(position, before, own.seen)
        alone.saw(position)
        assert shared.seen == alone.seen
