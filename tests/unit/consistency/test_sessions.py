"""What one context must see: sessions, their units of work, what they owe, and their size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forms.threads import in_threads

from peewee_replicas.consistency.sessions import LONGEST, SHORT, Session, saw_both
from peewee_replicas.positions import MariaDBPosition, MySQLPosition

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
    assert not session.owes
    session.owe()
    assert session.owes
    session.pay(session.debts)
    assert not session.owes


def test_an_obligation_that_arises_while_the_primary_is_asked_stays() -> None:
    session = Session()
    session.owe()
    asked_for = session.debts
    session.owe()
    session.pay(asked_for)
    assert session.owes
    session.pay(session.debts)
    session.pay(asked_for)  # an answer that comes late takes nothing back
    assert not session.owes


def test_taking_over_the_obligations_of_another() -> None:
    inner, outer = Session(gtid("0-1-5")), Session(gtid("1-1-1"))
    inner.owe()
    inner.stick(10.0)
    outer.take_over(inner)
    assert outer.seen == gtid("0-1-5,1-1-1")
    assert outer.owes
    assert outer.sticks(9.0)
    assert inner.seen == gtid("0-1-5")  # itself as it was
    quiet = Session()
    quiet.take_over(Session())
    assert quiet.seen is None
    assert not quiet.owes
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


_SOURCE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def _every_other(count: int, session: Session, *known: MySQLPosition | None) -> None:
    for number in range(1, 2 * count, 2):
        session.saw(MySQLPosition.parse(f"{_SOURCE}:{number}"))
        if session.merges >= SHORT:
            session.shorten(known)


def test_a_position_with_the_gaps_of_others_writes_is_kept_short_by_what_replicas_have() -> None:
    session = Session()
    reached = MySQLPosition.parse(f"{_SOURCE}:1-1900")
    _every_other(1000, session, None, reached)
    assert isinstance(session.seen, MySQLPosition)
    assert session.seen.size < 2 * SHORT + 50
    assert not session.owes
    own = MySQLPosition.parse(f"{_SOURCE}:" + ":".join(str(number) for number in range(1, 2000, 2)))
    assert session.seen.covers(own)
    assert reached.merge(own).covers(session.seen)


def test_a_position_that_nobody_can_shorten_gets_its_gaps_closed() -> None:
    """What others wrote in between was before the last of its own, so a replica has it just as soon."""
    session = Session()
    _every_other(5 * LONGEST, session, None)
    assert isinstance(session.seen, MySQLPosition)
    assert session.seen.size <= LONGEST + SHORT
    assert not session.owes
    own = MySQLPosition.parse(f"{_SOURCE}:" + ":".join(str(number) for number in range(1, 10 * LONGEST, 2)))
    assert session.seen.covers(own)
    assert MySQLPosition.parse(f"{_SOURCE}:1-{10 * LONGEST}").covers(session.seen)


@pytest.mark.parametrize("shared", [False, True])
def test_no_session_grows_without_end_whichever_way_its_positions_come(shared: bool) -> None:
    """By writes of its own, by those of another that saw the same, and by taking over from others."""
    session, other = Session(begun=True), Session(begun=True)
    longest = 0
    for number in range(1, 20_000, 2):
        position = MySQLPosition.parse(f"{_SOURCE}:{number}")
        if shared:
            saw_both(other, session, position)
        else:
            session.saw(position)
        if session.merges >= SHORT:
            session.shorten(())
        if other.merges >= SHORT:
            before = other.seen
            other.shorten(())
            assert other.seen is not None
            session.shortened_too(before, other.seen)
        assert session.seen is not None
        longest = max(longest, session.seen.size)
    assert longest <= LONGEST + 2 * SHORT


# Units of work


def test_a_session_begins_with_what_was_there_before() -> None:
    process, session = Session(gtid("0-1-5"), begun=True), Session()
    assert not session.settled
    session.saw(gtid("1-1-1"))  # a write comes before the first read
    session.begin((process,))
    assert session.settled
    assert session.seen == gtid("0-1-5,1-1-1")


def test_a_unit_of_work_that_ends_leaves_nothing_to_the_next() -> None:
    session = Session(begun=True)
    session.saw(gtid("0-1-5"))
    session.owe()
    session.stick(10.0)
    asked_for = session.debts
    session.end_unit()
    assert (session.seen, session.owes, session.settled, session.sticks(0.0)) == (None, False, False, False)
    session.owe()
    session.pay(asked_for)  # an answer to a question of the unit before
    assert session.owes
    session.begin((Session(gtid("0-1-9"), begun=True),))
    assert session.seen == gtid("0-1-9")


@pytest.mark.parametrize("change", ["owe", "stick", "forget", "end_unit"])
def test_whatever_a_read_has_to_consider_shows_in_one_attribute(change: str) -> None:
    session = Session(gtid("0-1-5"), begun=True)
    assert session.settled
    getattr(session, change)(*([10.0] if change == "stick" else []))
    assert not session.settled
    session.begin(())
    session.pay(session.debts)
    assert session.settled is (change != "stick")
    assert not session.sticks(10.0)
    assert session.settled


def test_what_was_seen_inside_counts_outside_from_the_end_on() -> None:
    outer = Session(gtid("0-1-5"), begun=True)
    inner = Session(outer=outer, begun=True)
    inner.start_from(gtid("1-1-9"), 100.0)  # a bookmark
    inner.owe()
    assert outer.seen == gtid("0-1-5")
    inner.end()
    assert outer.seen == gtid("0-1-5,1-1-9")
    assert outer.owes
    Session(gtid("0-1-1")).end()  # one that stands alone


def test_a_lost_position_is_given_up_for_the_primarys_present_one() -> None:
    session = Session(gtid("0-1-5"), begun=True)
    session.forget()
    assert session.seen is None
    assert session.owes
    assert session.restarts == 1


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
        saw_both(own, shared, position)
        alone.saw(position)
        assert shared.seen == alone.seen
