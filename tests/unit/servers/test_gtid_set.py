"""MySQL's positions: text, and what covers what."""

from __future__ import annotations

import pytest

from peewee_replicas.positions import MAX_NUMBER, MySQLInterval, MySQLPosition

pytestmark = pytest.mark.pure

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "beb0008b-e4ca-11f1-9f01-02fc00000001"


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
def test_mysql_sets_are_parsed_and_written(text: str, canonical: str) -> None:
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
def test_the_gtids_that_mysql_owns_are_parsed(owned: str, text: str) -> None:
    assert MySQLPosition.parse_owned(owned).text() == text


def test_mysql_sets_close_their_gaps() -> None:
    own = MySQLPosition.parse(f"{A}:3:5:9:20:t:1:3")
    known = MySQLPosition.parse(f"{A}:1-7:9-15:t:1-8,{B}:1-5")
    assert own.compact(known).text() == f"{A}:3-5:9:20:t:1-3"
    assert own.compact(MySQLPosition()) is own


def test_mysql_with_all_gaps_closed() -> None:
    own = MySQLPosition.parse(f"{A}:3:5:9:t:1:3,{B}:7")
    assert own.filled().text() == f"{A}:3-9:t:1-3,{B}:7"
    whole = MySQLPosition.parse(f"{A}:3-9,{B}:7")
    assert whole.filled() is whole


def test_mysql_without_what_another_has() -> None:
    own = MySQLPosition.parse(f"{A}:1-9:t:1,{B}:7")
    assert own.without(MySQLPosition.parse(f"{A}:2-3:8-12,{B}:7")).text() == f"{A}:1:4-7:t:1"
    assert own.without(MySQLPosition()) == own
    assert own.without(own).is_empty
    assert own.spans() == {A: (1, 9), f"{A}:t": (1, 1), B: (7, 7)}


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


def test_mysql_constructor_checks() -> None:
    for interval in (("x", "", 1, 1), (A, "9", 1, 1), (A, "a b", 1, 1), (A, "", 0, 1), (A, "", 2, 1)):
        with pytest.raises(ValueError, match="not a GTID set"):
            MySQLPosition([interval])


_NO_NUMBERS = ["0", "00", "+5", "-5", "5-", "-", "", " 5", "\u0665", "\u00b2", "5.0", "9" * 21]


@pytest.mark.parametrize("number", [*_NO_NUMBERS, str(MAX_NUMBER + 1)])
def test_a_source_that_was_met_before_takes_no_other_numbers(number: str) -> None:
    MySQLPosition.parse(f"{A}:7")
    with pytest.raises(ValueError, match="GTID set of MySQL"):
        MySQLPosition.parse(f"{A}:{number}")


def test_a_source_is_the_same_in_capitals_and_met_again() -> None:
    for source in (A, A.upper(), A, f"{A}:Tag", f"{A}:tag"):
        assert MySQLPosition.parse(f"{source}:0007").text() == f"{source.lower()}:7"
