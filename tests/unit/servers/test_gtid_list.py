"""MariaDB's positions: text, and what covers what."""

from __future__ import annotations

import pytest

from peewee_replicas.positions import MAX_SEQUENCE, MariaDBGTID, MariaDBPosition

pytestmark = pytest.mark.pure

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "beb0008b-e4ca-11f1-9f01-02fc00000001"


def test_mariadb_lists_are_parsed_and_written() -> None:
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
