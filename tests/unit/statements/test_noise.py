"""No noise makes a verdict more permissive, and nothing raises."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.characters import CHARACTERS
from support.statements.entries import ENTRIES, VERSIONS

from peewee_replicas.statements.classifier import Classifier, Dialect, Kind
from peewee_replicas.statements.kinds import RANK
from peewee_replicas.statements.tokens import QuotingMode, Token, lex

pytestmark = pytest.mark.pure

CLASSIFIERS: dict[Dialect | None, Classifier] = {
    None: Classifier(None),
    **{dialect: Classifier(dialect, version=version) for dialect, version in VERSIONS.items()},
}
DIALECTS = st.sampled_from(["mysql", "mariadb", "sqlite", None])
_FRAGMENTS = """
SELECT WITH RECURSIVE VALUES TABLE INSERT UPDATE DELETE FOR SHARE LOCK IN MODE INTO OUTFILE @a @@x := AS
( ) , ; . ' " ` \\ /* */ /*! /*+ -- # %s %% % ? :a [ ] { } f( count( count ( GET_LOCK( FROM t a `b` 'c'
1 1.5 .5 1e5 0x1 \n \t \x00 \x01 \u00a0 é 名 SET sql_mode = SHOW EXPLAIN DESC ANY SOME ON
information_schema LAST_INSERT_ID() NEXT VALUE PREVIOUS CREATE TEMPORARY BEGIN UNION
"""
FRAGMENTS = _FRAGMENTS.split(" ")


def rank(kind: Kind) -> int:
    # Beyond query there is nothing more or less permissive: all of it goes to the primary.
    return min(RANK[kind], 2)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=20), st.sampled_from(["", " "]), DIALECTS)
def test_nothing_raises(parts: list[str], between: str, dialect: Dialect | None) -> None:
    classifier = CLASSIFIERS[dialect]
    sql = between.join(parts)
    assert classifier.classify(sql).reason
    assert classifier.classify_sent(sql).reason
    classifier.classify("SELECT " + sql)


@settings(max_examples=200, deadline=None)
@given(st.text(CHARACTERS, max_size=50), DIALECTS)
def test_no_text_raises(text: str, dialect: Dialect | None) -> None:
    for sql in (text, f"SELECT {text}", f"SELECT '{text}'"):
        assert CLASSIFIERS[dialect].classify(sql).reason


SOUND = [
    entry
    for entry in ENTRIES
    if not entry.sent
    and all(
        t.kind not in ("unreadable", "exec", "hint") for t in lex(entry.sql, entry.dialect, QuotingMode())
    )
    and '"' not in entry.sql
    and "\\" not in entry.sql
    and "%" not in entry.sql
]
GAPS = [" ", "  ", "\t", "\n", "\r\n", " /* x */ ", "/**/", "/* ' \" ` */", " -- x\n", "/* ; */"]


def rebuilt(sql: str, dialect: Dialect, seed: int) -> str:
    """`sql` with other gaps where it has gaps, and more of them where they are harmless."""
    chance = random.Random(seed)
    made: list[str] = []
    before: Token | None = None
    for token in lex(sql, dialect, QuotingMode()):
        text = token.text
        if token.kind == "quoted":
            text = f"`{text}`"
        elif token.kind == "word":
            text = "".join(chance.choice((c.upper(), c.lower())) if c.isascii() else c for c in text)
        if token.gap or (before is not None and text in (",", ")", "=", "+")):
            made.append(chance.choice(GAPS))
        made.append(text)
        before = token
    return chance.choice(GAPS) + "".join(made) + chance.choice((*GAPS, ";", " ; ", ";;", "; -- x"))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(SOUND) - 1), st.integers(0, 2**32))
def test_gaps_case_and_semicolons_change_nothing(which: int, seed: int) -> None:
    entry = SOUND[which]
    sql = rebuilt(entry.sql, entry.dialect, seed)
    found = CLASSIFIERS[entry.dialect].classify(sql)
    assert rank(found.kind) >= rank(entry.kind), (entry, sql, found)
    assert rank(found.kind) == rank(entry.kind) or ";" in sql, (entry, sql, found)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(SOUND) - 1), st.integers(0, 2**32), st.sampled_from(FRAGMENTS))
def test_a_fragment_put_between_tokens_never_permits_more(which: int, seed: int, fragment: str) -> None:
    """Only a statement that goes on after the fragment is asked: a comment opened is none."""
    entry = SOUND[which]
    if fragment in ("--", "#", "/*", "'", '"', "`", ";", "*/"):
        return
    found = CLASSIFIERS[entry.dialect].classify(entry.sql + " " + fragment.strip())
    if entry.kind not in ("read", "query", "unknown") and "--" not in entry.sql and "#" not in entry.sql:
        assert rank(found.kind) >= 2, (entry, fragment, found)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(SOUND) - 1), st.integers(1, 5))
def test_parentheses_and_nesting_never_permit_more(which: int, depth: int) -> None:
    entry = SOUND[which]
    sql = entry.sql.rstrip("; \n")
    if re.search(r"--|#|;", sql) or not re.match(r"\(*(SELECT|WITH|VALUES|TABLE)\b", sql, re.I):
        return
    classifier = CLASSIFIERS[entry.dialect]
    for nested in (
        "(" * depth + sql + ")" * depth,
        f"SELECT * FROM ({sql}) AS x",
        f"SELECT 1 WHERE 1 IN ({sql})",
        f"WITH x AS ({sql}) SELECT * FROM x",
        f"SELECT 1 UNION {sql}",
        f"EXPLAIN {sql}",
    ):
        found = classifier.classify(nested)
        if entry.kind in ("read", "query", "locking", "session"):
            assert rank(found.kind) >= rank(entry.kind), (entry, nested, found)
        elif not nested.startswith("EXPLAIN"):
            assert found.kind != "read", (entry, nested, found)


@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "sqlite", None])
def test_ten_thousand_parentheses(dialect: Dialect | None) -> None:
    many = 10_000
    classifier = CLASSIFIERS[dialect]
    assert classifier.classify("(" * many + "SELECT 1" + ")" * many).kind == "read"
    assert classifier.classify("SELECT " + "(" * many + "1" + ")" * many).kind == "read"
    assert classifier.classify("(" * many).kind == "unknown"
