"""No text that the library shows holds a value of the statement.

Members of the kind: what `redacted` makes of any text, sound or broken, in every quoting mode; and each text
that the classifier makes from a statement, reasons and effects, with a literal in every place of every verb
and clause that has a message with a part of the text in it. The places that show a statement were found by
looking for slices and conversions of SQL in f-strings and log calls: refusals of statements and of raw
cursors, what a procedure has changed, broken off statements, reruns, escapes from transactions and queries
outside a greenlet.
"""

from __future__ import annotations

import itertools
import re
import time
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.statements.entries import ENTRIES, VERSIONS

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.errors import ReadOnlyViolation
from peewee_replicas.statements.classifier import Classifier, Dialect
from peewee_replicas.statements.redaction import LIMIT, redacted

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CALL p('hunter2')", "CALL p(?)"),
        ('CALL p("hunter2", 17)', "CALL p(?, ?)"),
        ("CALL p('it''s hunter2')", "CALL p(?)"),
        ("SELECT x'41', 0xFF, b'1', N'hunter2', 1.5e-3", "SELECT x?, ?, b?, N?, ?-?"),
        (
            "SELECT `b`, a.b FROM t WHERE a = %s AND b = %(b)s",
            "SELECT `b`, a.b FROM t WHERE a = %s AND b = %(b)s",
        ),
        ("INSERT  INTO\n t VALUES (1 ,\t2)", "INSERT INTO t VALUES (? , ?)"),
        ("/* hunter2 */ SELECT 1 -- hunter2\n, 2 # hunter2", "SELECT ? , ?"),
        ("SELECT /*+ MAX_EXECUTION_TIME(5) */ 1", "SELECT ?"),
        ('SELECT "t"."name" FROM "user"', 'SELECT "t"."name" FROM ?'),
        # Behind these, servers disagree about what is a value.
        ("INSERT INTO t VALUES ('a\\', 'hunter2')", "INSERT INTO t VALUES (…"),
        ("SELECT 'never closed hunter2", "SELECT…"),
        ('SELECT "never closed hunter2', "SELECT…"),
        ("SELECT 1 /* never closed hunter2", "SELECT ?…"),
        ("SELECT 1 /*!50000 hunter2 */", "SELECT ?…"),
        ("SELECT /*+ SET_VAR(a='*/ hunter2') */ 1", "SELECT…"),
        ("SELECT 5--'\nhunter2'", "SELECT ?…"),
        ("SELECT $$hunter2$$", "SELECT…"),
        ("SELECT [a'] = 'hunter2'", "SELECT…"),
        ("SELECT “hunter2”", "SELECT…"),
        ("SELECT 1hunter2, 0X68756e74657232", "SELECT ?, ?"),
        ("SELECT \0 hunter2", "SELECT…"),
        ("", ""),
        ("\\", "…"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown
    if text.isascii():
        assert redacted(text.encode()) == shown


def test_the_limit() -> None:
    assert redacted("SELECT " + "a, " * 1000) == ("SELECT " + "a, " * 1000)[:LIMIT] + "…"
    assert redacted("SELECT abc", 6) == "SELECT…"
    assert redacted("SELECT", 6) == "SELECT"
    assert len(redacted("x" * 10_000, 40)) == 41


def test_a_name_that_crosses_the_end_of_what_is_looked_at_shows_no_value() -> None:
    for padding in range(3900, 4010):
        text = "SELECT" + " " * padding + "'hunter2' -- hunter2"
        assert SECRET not in redacted(text), padding


PIECES = st.sampled_from(
    [
        *"'\"`\\#\n (),.@[]$?x",
        "''",
        "\\'",
        '\\"',
        "/*",
        "*/",
        "/*!",
        "/*+",
        "--",
        "-- ",
        ":=",
        "%s",
        "N",
        "FROM",
    ]
)


def values(text: str, ansi_quotes: bool, backslash_escapes: bool) -> set[str]:
    """The secrets that are a part of a literal to a server of this mode."""
    found, at = set[str](), 0
    while at < len(text):
        comment = re.compile(r"#[^\n]*|--(?=[ \n]|\Z)[^\n]*|/\*(?!!).*?(?:\*/|\Z)", re.DOTALL).match(text, at)
        if comment:
            at = comment.end()
            continue
        quote = text[at]
        at += 1
        if quote not in "'\"`":
            continue
        began = at
        escapes = backslash_escapes and quote != "`"
        while at < len(text) and text[at] != quote:
            at += 2 if escapes and text[at] == "\\" else 1
        if quote == "'" or (quote == '"' and not ansi_quotes):
            found |= set(re.findall(r"secret\d+", text[began:at]))
        at += 1
    return found


@given(st.lists(PIECES, max_size=14))
@example(["'", "\\", "'", ",", "'", "'"])
@example(['"', "\\", '"', ",", '"', '"'])
@example(["'", "\\'", "x", "'"])
@example(["`", '"', '"', "`"])
def test_nothing_shown_is_a_value_to_any_server(pieces: list[str]) -> None:
    text = "".join(f"{piece}secret{at}" for at, piece in enumerate(pieces))
    result = redacted(text, 10_000)
    shown = set(re.findall(r"secret\d+", re.sub(r'"[^"]*"', "", result)))
    for ansi_quotes, backslash_escapes in itertools.product((False, True), repeat=2):
        assert not shown & values(text, ansi_quotes, backslash_escapes), result
    # Inside backticks a double quote is a letter of the name.
    quoted = [name for name in re.findall(r'`[^`]*`|"[^"]*"', result) if name[0] == '"']
    # What stands in double quotes is shown only beside a dot, where no server takes a string.
    assert all(re.search(rf"\.{name}|{name} ?\.", result) for name in map(re.escape, quoted))


@pytest.mark.parametrize(
    "piece", ["'", '"', "`", "/*", "-- ", "(", " ", "'a',", "\\", "a", "/* */", "1, ", "'\\"]
)
def test_it_takes_no_longer_for_a_longer_text(piece: str) -> None:
    text = "SELECT " + piece * (8_000_000 // len(piece))
    began = time.perf_counter()
    redacted(text)
    redacted(memoryview(text.encode()))  # type: ignore[arg-type]
    assert time.perf_counter() - began < 1.0


# What the classifier says


# A literal in every place of every statement that a message is made from.
_SHAPES = """
{}
({})
(({}))
SELECT {}
SELECT{}(1)
SELECT a{}(1)
SELECT f({})
SELECT 1;{}
SELECT 1;CALL p({})
SELECT 1 FOR{}
SELECT 1 INTO{}
SELECT(SELECT {} FOR{})
SELECT @{}
SELECT @@{}
SELECT{}.x
SELECT`a`{}
SELECT{}%s
SELECT{}(1)FROM{}.t
SELECT ANY({})
SELECT a FROM t WHERE b IN{}(1)
SELECT SUBSTRING(a FROM 1 FOR{})
WITH{}AS(SELECT 1)SELECT 1
VALUES({})
TABLE{}
EXPLAIN{}
ANALYZE{}
SHOW{}
SHOW TABLES WHERE{}(1)
SET{}
SET{}=1
SET @@{}=1
SET SESSION{}=1
SET GLOBAL{}={}
SET a={},{}=1
SET sql_notes={},{}=1
SET STATEMENT{}=1 FOR{}
CALL{}
CALL p({})
CALL p({}(1))
CREATE{}
CREATE TABLE{}
ALTER USER u IDENTIFIED BY{}
DROP{}
DO{}
INSERT{}
LOAD{}
PREPARE s FROM{}
USE{}
BEGIN{}
START{}
PRAGMA{}
PRAGMA{}=1
PRAGMA key={}
"""
SHAPES = _SHAPES.strip().split("\n")
LITERALS = ["'hunter2'", "'a\\' hunter2 ('", "'a\\', hunter2(1), 'b'", "'a\\', hunter2 = 1, 'b'"]
# To SQLite these hold names, and a backslash is a letter like others.
QUOTED = [literal.replace("'", '"') for literal in LITERALS]


@pytest.mark.parametrize("dialect", [*get_args(Dialect), None])
def test_no_reason_or_effect_shows_a_literal(dialect: Dialect | None) -> None:
    classifier = Classifier(dialect, version=VERSIONS.get(dialect, "")) if dialect else Classifier(None)
    kinds = set[str]()
    literals = LITERALS[:1] if dialect == "sqlite" else LITERALS + QUOTED
    for shape, literal in itertools.product(SHAPES, literals):
        text = shape.replace("{}", f" {literal}")
        for found in (classifier.classify(text), classifier.classify_sent(text)):
            kinds.add(found.kind)
            assert SECRET not in (found.reason + found.effect).lower(), text
    assert len(kinds) >= 5


def test_reasons_show_names() -> None:
    assert "net_price()" in Classifier("mysql").classify("SELECT net_price(1)").reason
    assert "net_price()" in Classifier("mysql").classify("SELECT net_price(1), 'a'").reason
    assert "sql_mode" in Classifier("mysql").classify("SET SESSION sql_mode = 'ANSI'").effect


def test_no_reason_of_the_corpus_shows_a_string() -> None:
    for entry in ENTRIES:
        classifier = Classifier(entry.dialect, version=VERSIONS[entry.dialect])
        found = classifier.classify_sent(entry.sql)
        for literal in re.findall(r"'(\w{4,})'", entry.sql):
            assert f"'{literal}'" not in found.reason + found.effect, entry


# Where statements are shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CALL p('hunter2')", "(CALL p(?))"),
        ("INSERT INTO t VALUES ('hunter2', \"hunter2\")", "(INSERT INTO t VALUES (?, ?))"),
        ("SET @a = 'hunter2'", "(SET @a = ?)"),
        ("SELECT 'hunter2' FOR UPDATE", "(SELECT ? FOR UPDATE)"),
    ],
)
def test_what_a_refusal_shows(text: str, shown: str) -> None:
    # No server is asked: nothing listens there.
    db = ReplicatedDatabase("app", host="127.0.0.1", port=1, replicas=["127.0.0.1:2"], probe_interval=None)
    assert SECRET not in db.explain_route(text).reason
    for run in (db.execute_sql, db.explain_route):
        with db.readonly(), pytest.raises(ReadOnlyViolation) as caught:
            run(text)
        assert str(caught.value).endswith(shown)
        assert SECRET not in str(caught.value)


def test_a_string_before_a_number_is_no_name() -> None:
    assert redacted('CALL p("secret".5)') == "CALL p(?.?)"
    assert redacted('SELECT "t1"."id", "t1".*, "t1".n') == 'SELECT "t1"."id", "t1".*, "t1".n'
