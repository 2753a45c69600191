"""Positions: their laws, their text, and what they refuse."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.characters import CHARACTERS

from peewee_replicas.positions import POSITIONS, MariaDBPosition, MySQLInterval, MySQLPosition, Position

pytestmark = pytest.mark.pure

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "beb0008b-e4ca-11f1-9f01-02fc00000001"

mariadb_positions = st.dictionaries(
    st.integers(0, 3), st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=4
).map(lambda found: MariaDBPosition((d, server, n) for d, (server, n) in found.items()))

intervals = st.tuples(
    st.sampled_from([A, B, B.upper()]),
    st.sampled_from(["", "", "tag", "Zz_9"]),
    st.integers(1, 60),
    st.integers(0, 6),
).map(lambda found: MySQLInterval(*found[:3], found[2] + found[3]))
mysql_positions = st.lists(intervals, max_size=40).map(MySQLPosition)

KINDS = {"mariadb": mariadb_positions, "mysql": mysql_positions}


def of_one_kind(count: int) -> st.SearchStrategy[Any]:
    return st.one_of(*(st.tuples(*[positions] * count) for positions in KINDS.values()))


def numbers(position: Position) -> dict[Any, set[int]]:
    """The position as plain sets, to hold the arithmetic to."""
    sets: dict[Any, set[int]] = {}
    if isinstance(position, MariaDBPosition):
        return {gtid.domain: set(range(1, gtid.sequence + 1)) for gtid in position.gtids()}
    assert isinstance(position, MySQLPosition)
    for uuid, tag, first, last in position.intervals():
        sets.setdefault((uuid, tag), set()).update(range(first, last + 1))
    return sets


def is_subset(small: dict[Any, set[int]], large: dict[Any, set[int]]) -> bool:
    return all(members <= large.get(key, set()) for key, members in small.items())


@given(of_one_kind(2))
def test_merge_is_commutative(two: tuple[Any, Any]) -> None:
    one, other = two
    assert one.merge(other) == other.merge(one)
    assert one.merge(other).text() == other.merge(one).text()
    assert hash(one.merge(other)) == hash(other.merge(one))


@given(of_one_kind(3))
def test_merge_is_associative(three: tuple[Any, Any, Any]) -> None:
    a, b, c = three
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(of_one_kind(1))
def test_merge_is_idempotent_and_empty_is_its_neutral(single: tuple[Any]) -> None:
    (one,) = single
    same = type(one).parse(one.text())
    assert one.merge(same) is one
    assert one.merge(type(one)()) is one
    assert type(one)().merge(one) == one


@given(of_one_kind(3))
def test_covers_is_a_partial_order(three: tuple[Any, Any, Any]) -> None:
    a, b, c = three
    assert a.covers(a)
    assert (a.covers(b) and b.covers(a)) == (a == b)
    if a.covers(b) and b.covers(c):
        assert a.covers(c)
    joined = a.merge(b)  # chance seldom makes chains: make one
    assert joined.merge(c).covers(joined)
    assert joined.merge(c).covers(a)


@given(of_one_kind(2))
def test_covers_agrees_with_merge(two: tuple[Any, Any]) -> None:
    a, b = two
    assert a.merge(b).covers(a)
    assert a.merge(b).covers(b)
    assert a.covers(b) == (a.merge(b) == a)


@given(of_one_kind(2))
def test_covers_and_merge_are_those_of_plain_sets(two: tuple[Any, Any]) -> None:
    a, b = two
    plain_a, plain_b = numbers(a), numbers(b)
    assert a.covers(b) == is_subset(plain_b, plain_a)
    assert (a == b) == (plain_a == plain_b)
    keys = plain_a.keys() | plain_b.keys()
    assert numbers(a.merge(b)) == {key: plain_a.get(key, set()) | plain_b.get(key, set()) for key in keys}


@given(of_one_kind(1))
def test_text_round_trip(single: tuple[Any]) -> None:
    (one,) = single
    again = type(one).parse(one.text())
    assert again == one
    assert again.text() == one.text()
    assert hash(again) == hash(one)
    assert type(one).parse(one.text().replace(",", ",\n")) == one
    assert one.is_empty == (one.text() == "") == (one.size == 0)


@given(of_one_kind(1))
def test_positions_are_values(single: tuple[Any]) -> None:
    (one,) = single
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one
    assert eval(repr(one)) == one
    for name in ("anything", *type(one).__slots__):
        with pytest.raises(AttributeError, match="never changes"):
            setattr(one, name, {})


@given(of_one_kind(2))
def test_compact_closes_gaps_with_what_is_known_and_nothing_else(two: tuple[Any, Any]) -> None:
    one, known = two
    compact = one.compact(known)
    assert compact.covers(one)
    assert one.merge(known).covers(compact)
    assert compact.size <= one.size
    assert compact.compact(known) == compact
    everything = one.merge(known)
    assert everything.compact(known) == everything


@pytest.mark.parametrize("position_class", POSITIONS.values())
@given(
    text=st.one_of(
        st.text(CHARACTERS),
        st.text("0123456789abcdefABC-:,#_ \n"),
        st.from_regex(rf"{A}(:[0-9a-c-]+)+", alphabet=CHARACTERS),
    )
)
def test_parse_raises_nothing_but_value_error(position_class: type[Position], text: str) -> None:
    try:
        position = position_class.parse(text)
    except ValueError:
        return
    assert position_class.parse(position.text()) == position


def test_positions_of_two_kinds_cannot_be_compared() -> None:
    one, other = MariaDBPosition.parse("0-1-8"), MySQLPosition.parse(f"{A}:8")
    assert one != other
    assert MariaDBPosition() != MySQLPosition()
    for left, right in ((one, other), (other, one)):
        for method in ("merge", "covers", "compact"):
            with pytest.raises(TypeError, match="belongs to one kind of server"):
                getattr(left, method)(right)
