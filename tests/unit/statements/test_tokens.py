"""The lexer."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.statements.tokens import (
    PLACEHOLDER,
    QuotingMode,
    Token,
    fill_placeholders,
    lex,
    quoting_modes,
)

pytestmark = pytest.mark.pure

PLAIN = QuotingMode()


def kinds(text: str, mode: QuotingMode = PLAIN, dialect: str = "mysql") -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in lex(text, dialect, mode)]  # type: ignore[arg-type]


def test_words_names_literals_and_operators() -> None:
    assert kinds("SELECT `a b`, 'c', 1.5, 0x1f, x<=>y->>z") == [
        ("word", "SELECT"),
        ("quoted", "a b"),
        ("op", ","),
        ("string", "'c'"),
        ("op", ","),
        ("number", "1.5"),
        ("op", ","),
        ("number", "0x1f"),
        ("op", ","),
        ("word", "x"),
        ("op", "<=>"),
        ("word", "y"),
        ("op", "->>"),
        ("word", "z"),
    ]


def test_a_gap_is_white_space_or_a_comment() -> None:
    gaps = [token.gap for token in lex("a(b (c/**/(d#\n(", "mysql", QuotingMode())]
    assert gaps == [False, False, False, True, False, True, False, True]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a -- b", ["a"]),
        ("a --", ["a"]),
        ("a --\tb\nc", ["a", "c"]),
        ("a --b", ["a", "-", "-", "b"]),
        ("a # b\nc", ["a", "c"]),
        ("a /* b */ c", ["a", "c"]),
        ("a /*/ b */ c", ["a", "c"]),
        ("a /* /* */ b", ["a", "b"]),
        ("a /****/ b", ["a", "b"]),
        ("a # b\rc", ["a"]),
    ],
)
def test_comments_are_gaps(text: str, left: list[str]) -> None:
    assert [part for _, part in kinds(text)] == left


def test_the_quoting_modes_read_one_text_differently() -> None:
    text = r'"a\" , b, "c"'
    assert quoting_modes(text, "mysql") == (
        QuotingMode(False, True),
        QuotingMode(False, False),
        QuotingMode(True, True),
        QuotingMode(True, False),
    )
    assert [kind for kind, _ in kinds(text, QuotingMode(False, True))] == ["string", "word", "unreadable"]
    assert kinds(text, QuotingMode(True, True))[2] == ("word", "b")
    assert [kind for kind, _ in kinds(text, QuotingMode(False, False))][:2] == ["string", "op"]


def test_modes_that_cannot_matter_are_not_tried() -> None:
    assert quoting_modes("SELECT 'a'", "mariadb") == (QuotingMode(),)
    assert len(quoting_modes("SELECT '\\a'", None)) == 2
    assert len(quoting_modes('SELECT "a"', "mysql")) == 2
    assert len(quoting_modes('SELECT "a\\"', "sqlite")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "'a",
        '"a',
        "`a",
        "a /* b",
        "a\0b",
        "a\u00a0b",
        "a\u3000b",
        "\uff33elect",
        "GET_LOC\u212a(1)",
        "\u017fleep(1)",
        "a\U0001f600",
        "a \x01 b",
        "\\N",
        "?",
        "$$a$$",
        "1a",
        "1.a",
        "1e5a",
        "a.5",
        "0x1g",
    ],
)
def test_an_unknown_character_is_a_bad_token(text: str) -> None:
    filled = text.replace("\x01", "\x02")
    assert kinds(filled)[-1][0] == "unreadable"


def test_names_of_other_alphabets_are_names() -> None:
    assert kinds("straße, 名前") == [("word", "straße"), ("op", ","), ("word", "名前")]


class TestPlaceholders:
    def test_a_format_is_filled(self) -> None:
        assert fill_placeholders("a = %s AND b = %(key)s") == "a = \x01 AND b = \x01"
        assert fill_placeholders("a %% 2, '%%Y'") == "a % 2, '%Y'"
        assert fill_placeholders("%%s") == "%s"
        assert fill_placeholders("no sign") == "no sign"

    @pytest.mark.parametrize("text", ["%", "%d", "% s", "%-5s", "%(a", "%(a b)s", "%(a)d", "%%%", "\x01"])
    def test_a_text_with_other_placeholders_is_not_filled(self, text: str) -> None:
        assert fill_placeholders(text) is None

    @pytest.mark.parametrize(
        "text",
        [
            "'%s'",
            '"%s"',
            "`%s`",
            "/* %s */",
            "-- %s",
            "# %s",
            "/*+ %s */",
            "a%s",
            "%sa",
            "1%s",
            "%s1",
            "'a'%s",
            "%s'a'",
            "`a`%s",
            "%s%s",
            "@%s",
            "@@%s",
            "a.%s",
            "%s.a",
        ],
    )
    def test_where_a_value_could_become_code(self, text: str) -> None:
        filled = fill_placeholders(text)
        assert filled is not None
        assert "unreadable" in [kind for kind, _ in kinds(filled)]

    @pytest.mark.parametrize("text", ["(%s)", "a = %s", "a=%s", "%s,%s", "-%s", "--%s", "%s /* a */"])
    def test_where_a_value_cannot_become_code(self, text: str) -> None:
        filled = fill_placeholders(text)
        assert filled is not None
        assert "unreadable" not in [kind for kind, _ in kinds(filled)]

    def test_sqlite_has_its_own(self) -> None:
        found = kinds("? ?1 :a @b $c 5 % 2", dialect="sqlite")
        assert [kind for kind, _ in found[:5]] == ["param"] * 5


def test_the_lexer_stops_at_the_first_bad_token() -> None:
    assert [kind for kind, _ in kinds("a ' b c d")] == ["word", "unreadable"]


def test_a_long_literal_is_one_token() -> None:
    text = "'" + "it\\'s " * 200_000 + "'"
    assert [kind for kind, _ in kinds(text)] == ["string"]


VALUES = st.lists(
    st.sampled_from([PLACEHOLDER, "?", "?2", "1", "22", "0x1F", "1.5", "2e3", "9lock", "b", "'x'"])
)
LISTS = st.tuples(VALUES, st.sampled_from([", ", ","])).map(lambda found: found[1].join(found[0]))
AROUND = st.sampled_from(["", " ", "(", ")", "a", "a ", ".", "@", "-", "'s'", "`q`", ", ", "$", "é"])


def _without_lists(tokens: list[Token]) -> list[str]:
    """What each token is, of values side by side only the first, and no commas."""
    values = ("param", "number", "string")
    said = [token.kind if token.kind in values else token.text for token in tokens if token.text != ","]
    return [first for first, _ in groupby(said)]


@given(AROUND, LISTS, AROUND, st.sampled_from(["mysql", "mariadb", "sqlite", None]))
def test_a_list_of_values_means_what_its_first_value_means(
    before: str, values: str, after: str, dialect: Any
) -> None:
    text = before + values + after
    slowly = text.replace(", ", ",").replace(",", ",  ")  # two blanks keep values apart
    found, apart = list(lex(text, dialect, QuotingMode())), list(lex(slowly, dialect, QuotingMode()))
    assert _without_lists(found) == _without_lists(apart)


@pytest.mark.parametrize(("value", "dialect"), [(PLACEHOLDER, "mysql"), ("?", "sqlite"), ("12", "mariadb")])
def test_long_lists_are_few_tokens(value: str, dialect: Any) -> None:
    tokens = list(lex(f"({', '.join([value] * 100_000)})", dialect, QuotingMode()))
    assert len(tokens) < 500
    assert {token.kind for token in tokens} in ({"op", "param"}, {"op", "number"})
