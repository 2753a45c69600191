"""Positions: their laws, their text, and what they refuse."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.intervals import contains, join, union, without_gaps
from peewee_replicas.positions import (
    MAX_NUMBER,
    MAX_SEQUENCE,
    POSITIONS,
    MariaDBGTID,
    MariaDBPosition,
    MySQLInterval,
    MySQLPosition,
    Position,
)

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


# Laws


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


# Intervals


@given(st.integers(), st.integers(1, 400), st.integers(0, 60), st.integers(20, 1500))
def test_long_rows_of_intervals(seed: int, many: int, few: int, highest: int) -> None:
    chance = random.Random(seed)
    row = [chance.randrange(highest) for _ in range(many)]
    other = [chance.randrange(highest) for _ in range(few)] or [0]
    plain_row, plain_other = set(row), set(other)
    one, two = (join((n, n + 1) for n in found) for found in (row, other))
    for left, right in ((one, two), (two, one)):
        both = union(left, right)
        assert both == join((n, n + 1) for n in plain_row | plain_other)
        assert list(both) == sorted(set(both))
        assert contains(both, left)
        assert contains(both, right)
    assert contains(one, two) == (plain_other <= plain_row)
    assert contains(two, one) == (plain_row <= plain_other)
    assert without_gaps(one, union(one, two)) == without_gaps(one, two)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ((1, 4), (4, 6), (1, 6)),  # touching
        ((4, 6), (1, 4), (1, 6)),
        ((1, 4), (5, 6), (1, 4, 5, 6)),
        ((5, 6), (1, 4), (1, 4, 5, 6)),
        ((1, 2, 5, 6), (2, 5), (1, 6)),  # filling a gap
        ((1, 2, 5, 6), (3, 4), (1, 2, 3, 4, 5, 6)),
        ((1, 2, 5, 6), (1, 9), (1, 9)),  # swallowing all
        ((1, 2, 5, 6, 9, 10), (5, 9), (1, 2, 5, 10)),
        ((1, 2, 5, 6), (6, 7), (1, 2, 5, 7)),  # the next write
        ((1, 2, 5, 6), (8, 9), (1, 2, 5, 6, 8, 9)),
    ],
)
def test_union(one: tuple[int, ...], other: tuple[int, ...], both: tuple[int, ...]) -> None:
    assert union(one, other) == both == union(other, one)


def test_union_that_adds_nothing_is_the_same_object() -> None:
    assert union(row := (1, 4, 6, 9), (7, 8)) is row


# MariaDB


def test_mariadb_text() -> None:
    position = MariaDBPosition.parse("2-1-7,0-1-8,\n 1-9-18446744073709551615")
    assert position.text() == "0-1-8,1-9-18446744073709551615,2-1-7"
    assert position.gtids() == (MariaDBGTID(0, 1, 8), MariaDBGTID(1, 9, MAX_SEQUENCE), MariaDBGTID(2, 1, 7))
    assert repr(MariaDBPosition.parse("0-1-8")) == "MariaDBPosition.parse('0-1-8')"


def test_mariadb_compares_domain_and_sequence_only() -> None:
    one, other = MariaDBPosition.parse("0-1-8"), MariaDBPosition.parse("0-2-8")
    assert one == other
    assert hash(one) == hash(other)
    assert one.covers(other)
    assert MariaDBPosition.parse("0-1-9").covers(other)
    assert not MariaDBPosition.parse("0-2-7").covers(one)


def test_mariadb_domains_are_apart() -> None:
    assert not MariaDBPosition.parse("0-1-9").covers(MariaDBPosition.parse("1-1-3"))
    merged = MariaDBPosition.parse("0-1-9,1-1-1").merge(MariaDBPosition.parse("1-2-3,0-1-4"))
    assert merged.text() == "0-1-9,1-2-3"


def test_mariadb_sequence_zero_is_reached_by_everybody() -> None:
    assert MariaDBPosition.parse("0-1-0").is_empty
    assert MariaDBPosition().covers(MariaDBPosition.parse("7-1-0"))
    assert MariaDBPosition.parse("0-1-0,1-1-1").text() == "1-1-1"


@pytest.mark.parametrize(
    ("position", "state", "recorded"),
    [
        ("", "", True),
        ("0-1-8", "0-1-8", True),
        ("0-1-8", "0-1-9", True),
        ("0-1-8", "0-1-7", False),
        ("0-1-8", "0-2-9", False),  # the number was taken again by another server
        ("0-1-8", "0-1-8,0-2-9", True),
        ("0-1-8,1-1-3", "0-1-8,0-2-9", False),
        ("0-1-8,1-1-3", "0-1-8,\n0-2-9,1-1-3", True),
        ("0-1-8", "", False),
    ],
)
def test_mariadb_lost_history(position: str, state: str, recorded: bool) -> None:
    assert MariaDBPosition.parse(position).recorded_in(state) is recorded


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0-1", "'0-1' is not domain-server-sequence"),
        ("0-1-8-9", "is not domain-server-sequence"),
        ("0-1-x", "'0-1-x' is not"),
        ("0-1-8,", "'' is not"),
        (",", "'' is not"),
        ("0-1-8,,1-1-1", "'' is not"),
        ("0- 1-8", "is not domain-server-sequence"),
        ("0-1--8", "is not domain-server-sequence"),
        ("0-1-٨", "is not domain-server-sequence"),
        (f"{A}:8", "is not domain-server-sequence"),
        ("4294967296-1-1", "'4294967296-1-1' has a number that is out of range"),
        ("0-4294967296-1", "out of range"),
        ("0-1-18446744073709551616", "out of range"),
        ("0-1-" + "9" * 5000, "is not domain-server-sequence"),
        ("0-1-8,0-2-9", "domain 0 is there twice"),
    ],
)
def test_mariadb_refuses_malformed_text(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"domain 0 is|not a GTID") as caught:
        MariaDBPosition.parse(text)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 200


# MySQL


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        (" \n", ""),
        (f"{A}:8", f"{A}:8"),
        (f"{A}:1-8", f"{A}:1-8"),
        (f"{A.upper()}:8", f"{A}:8"),
        (f"{A}:TAG:8", f"{A}:tag:8"),
        (f"{A}:1-3:5:tag:7", f"{A}:1-3:5:tag:7"),
        (f"{A}:1-3:5:Tag:7:1-2", f"{A}:1-3:5:tag:1-2:7"),
        (f"{A}:1-3:4:2", f"{A}:1-4"),
        (f"{A}:5-9:1-6", f"{A}:1-9"),
        (f"{A}:b:1:a:2:1-5:b:7", f"{A}:a:1-5:b:1:7"),
        (f"{A}:tag:1,{A}:5:1,{A}:_a1:4", f"{A}:1:5:_a1:4:tag:1"),
        (f"{B}:2,\n{A}:1,\n{B}:1", f"{A}:1,{B}:1-2"),
        (f"{A}:{MAX_NUMBER}", f"{A}:{MAX_NUMBER}"),
    ],
)
def test_mysql_text(text: str, canonical: str) -> None:
    assert MySQLPosition.parse(text).text() == canonical


def test_mysql_membership_is_exact() -> None:
    gapped = MySQLPosition.parse(f"{A}:1-3:5")
    assert not gapped.covers(MySQLPosition.parse(f"{A}:4"))
    assert not gapped.covers(MySQLPosition.parse(f"{A}:1-5"))
    assert gapped.covers(MySQLPosition.parse(f"{A}:2:5"))
    assert gapped.merge(MySQLPosition.parse(f"{A}:4")).text() == f"{A}:1-5"


def test_mysql_sources_and_tags_are_apart() -> None:
    position = MySQLPosition.parse(f"{A}:1-9:tag:1-5")
    for missing in (f"{B}:1", f"{A}:tag:6", f"{A}:other:1"):
        assert not position.covers(MySQLPosition.parse(missing))
    assert position.intervals() == (MySQLInterval(A, "", 1, 9), MySQLInterval(A, "tag", 1, 5))


@pytest.mark.parametrize(
    ("owned", "text"),
    [
        ("", ""),
        (f"{A}:23#45", f"{A}:23"),
        (f"{A}:23#45:25#46,\n{B}:1#47", f"{A}:23:25,{B}:1"),
        (f"{A}:23#45#46:24#47", f"{A}:23-24"),
        (f"{A}:tag:5#24", f"{A}:tag:5"),
        (f"{A}:25#17:23#12{B}:9#18", f"{A}:23:25,{B}:9"),
        (f"{A}:25#17{A}:t:9#23:7#4{A}:u:8#21", f"{A}:25:t:7:9:u:8"),
        (f"{B}:9#18#19{A}:5#17", f"{A}:5,{B}:9"),
        (f"{B}:9#111111111{'1' * 8}{A[8:]}:5#17", f"{'1' * 8}{A[8:]}:5,{B}:9"),
    ],
)
def test_mysql_owned(owned: str, text: str) -> None:
    assert MySQLPosition.parse_owned(owned).text() == text


def test_mysql_compact() -> None:
    own = MySQLPosition.parse(f"{A}:3:5:9:20:t:1:3")
    known = MySQLPosition.parse(f"{A}:1-7:9-15:t:1-8,{B}:1-5")
    assert own.compact(known).text() == f"{A}:3-5:9:20:t:1-3"
    assert own.compact(MySQLPosition()) is own


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "'nonsense' is not a UUID"),
        ("0-1-8", "'0-1-8' is not a UUID"),
        (A.replace("-", "") + ":1", "is not a UUID"),
        (A, "has no interval at its end"),
        (f"{A}:tag", "has no interval at its end"),
        (f"{A}:1:tag", "has no interval at its end"),
        (f"{A}:", "'' after"),
        (f"{A}:one:two:3", "'two' after"),
        (f"{A}:1-", "'1-' after"),
        (f"{A}:1-2-3", "'1-2-3' after"),
        (f"{A}: 1", "' 1' after"),
        (f"{A}:1tag:5", "'1tag' after"),
        (f"{A}:tag-x:5", "'tag-x' after"),
        (f"{A}:{'t' * 33}:5", "neither interval nor tag"),
        (f"{A}:23#45", "'23#45' after"),
        (f"{A}:٨", "neither interval nor tag"),
        (f"{A}:{'9' * 5000}", "neither interval nor tag"),
        (f"{A}:0", "'0-0' is not within 1 to"),
        (f"{A}:1-{MAX_NUMBER + 1}", "is not within 1 to"),
        (f"{A}:tag:0", "is not within 1 to"),
        (f"{A}:5-3", "'5-3' ends before it starts"),
        (f"{A}:1,", "'' is not a UUID"),
        (f"{A}:1 {B}:1", "after"),
    ],
)
def test_mysql_refuses_malformed_text(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="not a GTID set of MySQL") as caught:
        MySQLPosition.parse(text)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("position_class", POSITIONS.values())
@given(
    text=st.one_of(st.text(), st.text("0123456789abcdefABC-:,#_ \n"), st.from_regex(rf"{A}(:[0-9a-c-]+)+"))
)
def test_parse_raises_nothing_but_value_error(position_class: type[Position], text: str) -> None:
    try:
        position = position_class.parse(text)
    except ValueError:
        return
    assert position_class.parse(position.text()) == position


def test_mysql_constructor_checks() -> None:
    for interval in (("x", "", 1, 1), (A, "9", 1, 1), (A, "a b", 1, 1), (A, "", 0, 1), (A, "", 2, 1)):
        with pytest.raises(ValueError, match="not a GTID set"):
            MySQLPosition([interval])


def test_positions_of_two_kinds_cannot_be_compared() -> None:
    one, other = MariaDBPosition.parse("0-1-8"), MySQLPosition.parse(f"{A}:8")
    assert one != other
    assert MariaDBPosition() != MySQLPosition()
    for left, right in ((one, other), (other, one)):
        for method in ("merge", "covers", "compact"):
            with pytest.raises(TypeError, match="belongs to one kind of server"):
                getattr(left, method)(right)


_NO_NUMBERS = ["0", "00", "+5", "-5", "5-", "-", "", " 5", "\u0665", "\u00b2", "5.0", "9" * 21]


@pytest.mark.parametrize("number", [*_NO_NUMBERS, str(MAX_NUMBER + 1)])
def test_a_source_that_was_met_before_takes_no_other_numbers(number: str) -> None:
    MySQLPosition.parse(f"{A}:7")
    with pytest.raises(ValueError, match="GTID set of MySQL"):
        MySQLPosition.parse(f"{A}:{number}")


def test_a_source_is_the_same_in_capitals_and_met_again() -> None:
    for source in (A, A.upper(), A, f"{A}:Tag", f"{A}:tag"):
        assert MySQLPosition.parse(f"{source}:0007").text() == f"{source.lower()}:7"
