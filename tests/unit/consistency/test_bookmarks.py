"""Bookmarks: short, strict, and nobody's tool against a reader."""

from __future__ import annotations

import math
import random
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.characters import CHARACTERS

from peewee_replicas.bookmarks import (
    MAX_HISTORY,
    MAX_LENGTH,
    Bookmark,
    BookmarkError,
    BookmarkExpired,
    decode,
    encode,
    sign,
    unsign,
)
from peewee_replicas.positions import MariaDBPosition, MySQLInterval, MySQLPosition, Position

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "beb0008b-e4ca-11f1-9f01-02fc00000001"
NOW = 1_800_000_000.0
KEY = "a secret of good length"

mariadb_positions = st.dictionaries(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), max_size=4
).map(lambda found: MariaDBPosition((d, server, n) for d, (server, n) in found.items()))
mysql_positions = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([A, B]), st.uuids().map(str)),
        st.sampled_from(["", "", "tag", "z_9"]),
        st.one_of(st.integers(1, 60), st.integers(1, 2**62)),
        st.integers(0, 6),
    ).map(lambda found: MySQLInterval(*found[:3], found[2] + found[3])),
    max_size=20,
).map(MySQLPosition)
positions = st.one_of(mariadb_positions, mysql_positions)
histories = st.one_of(
    st.sampled_from([A, B, A.upper(), "", "/MCHosHYn9eNb9c2Tg0TzJRQvY8="]),
    st.text(CHARACTERS, max_size=MAX_HISTORY // 4),
)
times = st.integers(0, 2**47 - 1).map(lambda milliseconds: milliseconds / 1000)


def packed(body: bytes) -> str:
    """What a forger who knows the form makes of a body."""
    return urlsafe_b64encode(body + crc32(body).to_bytes(4, "big")).rstrip(b"=").decode()


@given(positions, histories, times)
def test_round_trip(position: Position, history: str, issued: float) -> None:
    text = encode(position, history, issued)
    found = decode(text, issued, 0)
    assert found == Bookmark(position, history, issued)
    assert found.position.text() == position.text()  # equality leaves MariaDB's server ids out
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)


def test_bookmarks_are_short() -> None:
    assert len(encode(MariaDBPosition.parse("0-1-123456"), "/MCHosHYn9eNb9c2Tg0TzJRQvY8=", NOW)) <= 60
    assert len(encode(MySQLPosition.parse(f"{A}:123456"), A, NOW)) <= 46
    assert len(encode(MySQLPosition.parse(f"{A}:1-123456:tag:7"), A, NOW)) <= 56


def test_bookmarks_already_given_out_stay_readable() -> None:
    """The form of version 1: this text must be read for as long as version 1 is."""
    mariadb = encode(MariaDBPosition.parse("0-1-8,3-2-700"), "server-1", NOW)
    mysql = encode(MySQLPosition.parse(f"{A}:1-3:5:tag:7,{B}:9"), B, NOW)
    assert (mariadb, mysql) == (MARIADB_V1, MYSQL_V1)
    assert decode(MARIADB_V1, NOW, 0).position.text() == "0-1-8,3-2-700"
    assert decode(MYSQL_V1, NOW, 0).position.text() == f"{A}:1-3:5:tag:7,{B}:9"


MARIADB_V1 = "EYCg8cKxNBBzZXJ2ZXItMQABCAMCvAXLrrZw"
MYSQL_V1 = (
    "EoCg8cKxNAG-sACL5MoR8Z8BAvwAAAABAD4R-kdxyhHhnjPICqlClWICAQICAAd0YWcBBwAAvrAAi-TKEfGfAQL8AAAAAQEJAKUWxTM"
)


@given(
    st.one_of(
        st.text(CHARACTERS), st.text("ABEQIRSabcz019-_", max_size=60), st.binary(max_size=60).map(packed)
    )
)
@example("")
@example("A")
@example("\ud800")
@example("é" * 20)
def test_decode_raises_nothing_but_its_error(text: str) -> None:
    try:
        found = decode(text, NOW, math.inf)
    except BookmarkError:
        return
    assert encode(*found) == text


@given(positions, histories, times, st.data())
def test_a_sound_checksum_proves_nothing(
    position: Position, history: str, issued: float, data: st.DataObject
) -> None:
    text = encode(position, history, issued)
    body = bytearray(urlsafe_b64decode(text + "=" * (-len(text) % 4))[:-4])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    forged = packed(bytes(body[: data.draw(st.integers(at, len(body)))]))
    try:
        found = decode(forged, issued, math.inf)
    except BookmarkError:
        return
    assert encode(*found) == forged


@given(positions, histories, times, st.data())
def test_damage_is_noticed(position: Position, history: str, issued: float, data: st.DataObject) -> None:
    text = encode(position, history, issued)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_ =.").filter(lambda letter: letter != text[at]))
    for damaged in (
        text[:at],
        text[:at] + text[at + 1 :],
        text[:at] + letter + text[at + 1 :],
        text + letter,
    ):
        with pytest.raises(BookmarkError):
            decode(damaged, issued, math.inf)


@pytest.mark.parametrize("damage", [str.lower, str.upper, str.swapcase])
def test_a_header_that_was_folded_is_noticed(damage: object) -> None:
    text = encode(MySQLPosition.parse(f"{A}:8"), A, NOW)
    with pytest.raises(BookmarkError, match="is damaged"):
        decode(damage(text), NOW, math.inf)  # type: ignore[operator]


@pytest.mark.parametrize("thing", [None, b"EQ", 7])
def test_what_is_no_text_is_no_bookmark(thing: object) -> None:
    with pytest.raises(BookmarkError, match="a bookmark is a str, not"):
        decode(thing, NOW, 1)  # type: ignore[arg-type]
    with pytest.raises(BookmarkError, match="a bookmark is a str, not"):
        unsign(thing, KEY)  # type: ignore[arg-type]


def number(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


SOME = number(int(NOW * 1000)) + b"\x00"  # a time and a history without a name


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "ends too early"),
        (b"\x21" + SOME, "another version"),
        (b"\x11", "ends too early"),
        (b"\x11" + b"\xff" * 30, "a number in it is too long"),
        (b"\x11" + number(2**69) + b"\x00", "issued must be"),
        (b"\x11" + number(1) + b"\x02\xff", "is no text"),
        (b"\x11" + number(1) + number(2**60), "ends too early"),
        (b"\x11" + number(1) + number((MAX_HISTORY + 1) * 2) + b"a" * (MAX_HISTORY + 1), "at most 256 bytes"),
        (b"\x11" + number(1) + b"\x48" + A.encode(), "not as this package writes it"),
        (b"\x11" + SOME + b"\x00\x01", "ends too early"),
        (b"\x11" + SOME + b"\x00\x01\x88\x00", "not as this package writes it"),  # 8 in two bytes
        (b"\x11" + SOME + b"\x00\x01\x00", "not as this package writes it"),
        (b"\x11" + SOME + b"\x01\x01\x01\x00\x01\x01", "not as this package writes it"),
        (b"\x11" + SOME + b"\x00\x01\x01\x00\x01\x02", "twice"),
        (b"\x11" + SOME + number(2**32) + b"\x01\x01", "out of range"),
        (b"\x12" + SOME + b"\x01\x01\x01\x00", "is not a UUID"),  # "as before", and there is none
        (b"\x12" + SOME + b"\x00" + bytes(16) + b"\x00", "not as this package writes it"),
        (b"\x12" + SOME + b"\x00" + bytes(16) + number(2**69), "ends too early"),
        (b"\x12" + SOME + b"\x00" + bytes(16) + b"\x01\x00\x00", "not within 1 to"),
        (b"\x12" + SOME + b"\x00" + bytes(16) + b"\x02\x01\x00\x01\x00", "not as this package writes it"),
        (b"\x12" + SOME + b"\x00" + bytes(16) + b"\x01" + number(2**63) + b"\x00", "not within 1 to"),
        (b"\x12" + SOME + b"\x02" + bytes(16) + b"\xff\x01\x01\x00", "not a bookmark"),
        (b"\x12" + SOME + b"\x02" + bytes(16) + b"9\x01\x01\x00", "is not a tag"),
        (b"\x12" + SOME + b"\x02" + bytes(16) + b"T\x01\x01\x00", "not as this package writes it"),
    ],
)
def test_forged_bodies(body: bytes, why: str) -> None:
    with pytest.raises(BookmarkError) as caught:
        decode(packed(body), NOW, math.inf)
    assert why in str(caught.value)


def test_a_bookmark_has_one_text() -> None:
    text = encode(MariaDBPosition.parse("0-1-8"), "h", NOW)
    variants = [text + "=", text + "\n", " " + text, text.replace("-", "+").replace("_", "/") + "=="]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    variants += [text[:-1] + letter for letter in letters if letter != text[-1]]
    for variant in variants:
        with pytest.raises(BookmarkError):
            decode(variant, NOW, math.inf)


# Age


@pytest.mark.parametrize("age", [0, 59.5, 60, -59.5, -60])
def test_within_its_age(age: float) -> None:
    assert decode(encode(MariaDBPosition(), "h", NOW), NOW + age, 60).issued == NOW


@pytest.mark.parametrize(
    ("age", "why"), [(61, "61 s old"), (-61, "61 s in the future"), (math.nan, "good for")]
)
def test_beyond_its_age(age: float, why: str) -> None:
    with pytest.raises(BookmarkExpired, match=why):
        decode(encode(MariaDBPosition(), "h", NOW), NOW + age, 60)


def test_a_damaged_bookmark_is_not_called_expired() -> None:
    with pytest.raises(BookmarkError) as caught:
        decode("nonsense", NOW, 60)
    assert not isinstance(caught.value, BookmarkExpired)


@pytest.mark.parametrize("issued", [-1, math.nan, math.inf, -math.inf, 2**47 / 1000, 1e300])
def test_a_time_that_cannot_be_written(issued: float) -> None:
    with pytest.raises(ValueError, match="issued must be"):
        encode(MariaDBPosition(), "h", issued)


# Bounds


def test_the_longest_bookmark_and_one_longer() -> None:
    def bookmark(count: int) -> str:
        return encode(MySQLPosition((A, "", n, n) for n in range(1, 2 * count, 2)), A, NOW)

    longest = max(count for count in range(1400, 1500) if _fits(bookmark, count))
    assert decode(bookmark(longest), NOW, 0).position.size == longest
    with pytest.raises(ValueError, match=f"of {longest + 1} intervals .* compact\\(\\) it"):
        bookmark(longest + 1)


def _fits(bookmark: object, count: int) -> bool:
    try:
        return len(bookmark(count)) <= MAX_LENGTH  # type: ignore[operator]
    except ValueError:
        return False


def test_a_text_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(BookmarkError, match="the longest has 4000"):
        decode("é" * 10_000_000, NOW, 1)
    with pytest.raises(BookmarkError, match="the longest has"):
        unsign("A" * 10_000_000, KEY)


def test_a_history_that_is_too_long() -> None:
    encode(MariaDBPosition(), "é" * (MAX_HISTORY // 2), NOW)
    with pytest.raises(ValueError, match="at most 256 bytes, not 258"):
        encode(MariaDBPosition(), "é" * (MAX_HISTORY // 2 + 1), NOW)


def test_something_that_is_no_position() -> None:
    with pytest.raises(TypeError, match="no bookmarks for a str"):
        encode("0-1-8", "h", NOW)  # type: ignore[arg-type]


# Signatures


@given(positions, histories, times, st.text(CHARACTERS, max_size=10))
def test_signed_round_trip(position: Position, history: str, issued: float, context: str) -> None:
    text = encode(position, history, issued)
    signed = sign(text, KEY, context)
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{22}", signed)
    assert unsign(signed, KEY, context=context) == text
    assert unsign(signed, "the key that comes next", KEY.encode(), context=context) == text


def test_what_was_not_signed_like_this() -> None:
    text = encode(MariaDBPosition.parse("0-1-8"), "h", NOW)
    other = encode(MariaDBPosition.parse("0-1-9"), "h", NOW)
    signed = sign(text, KEY, "ada")
    signature = signed.rpartition(".")[2]
    chance = random.Random(1)
    forged = [
        f"{other}.{signature}",
        f"{text}.",
        f"{text}.{signature}=",
        f"{text}..{signature}",
        f".{signature}",
    ]
    forged += [f"{text}.{signature[:n]}" for n in range(22)]
    forged += [f"{text}.é", f"{text}.\ud800"]
    forged += [signed[:at] + "*" + signed[at + 1 :] for at in chance.sample(range(len(text)), 5)]
    for attempt in forged:
        with pytest.raises(BookmarkError, match="signature is wrong"):
            unsign(attempt, KEY, context="ada")
    for context in ("", "ad", "bob", "ada\0"):
        with pytest.raises(BookmarkError, match="signature is wrong"):
            unsign(signed, KEY, context=context)
    with pytest.raises(BookmarkError, match="signature is wrong"):
        unsign(signed, KEY + "!", context="ada")
    with pytest.raises(BookmarkError, match="is not signed"):
        unsign(text, KEY, context="ada")


def test_context_and_text_cannot_trade_places() -> None:
    assert sign("bc", KEY, "a").partition(".")[2] != sign("c", KEY, "ab").partition(".")[2]


@pytest.mark.parametrize("key", ["", b"", "15 bytes of key", b"x" * 15])
def test_short_keys(key: str | bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes or more"):
        sign("text", key)
    with pytest.raises(ValueError, match="16 bytes or more"):
        unsign("text.signature", key)


@pytest.mark.parametrize("key", ["16 bytes for key", "é" * 8, b"x" * 16])
def test_the_shortest_keys(key: str | bytes) -> None:
    assert unsign(sign("text", key), key) == "text"


def test_unsigning_needs_a_key() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        unsign("text.signature")
