"""The corpus, and what the classifier does around it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import get_args

import pytest
from support.forms.threads import in_threads
from support.statements.entries import ENTRIES, VERSIONS, Entry

from peewee_replicas.statements import classifier as statements
from peewee_replicas.statements import tokens
from peewee_replicas.statements.classifier import Classifier, Dialect, Kind
from peewee_replicas.statements.kinds import RANK

pytestmark = pytest.mark.pure

CLASSIFIERS: dict[Dialect | None, Classifier] = {
    None: Classifier(None),
    **{dialect: Classifier(dialect, version=version) for dialect, version in VERSIONS.items()},
}


def verdict(entry: Entry, dialect: Dialect | None) -> statements.Statement:
    classifier = CLASSIFIERS[dialect]
    return (classifier.classify_sent if entry.sent else classifier.classify)(entry.sql)


@pytest.mark.lesson(4, 10)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.place}-{e.dialect}")
def test_every_statement_of_the_corpus_has_its_kind(entry: Entry) -> None:
    found = verdict(entry, entry.dialect)
    assert (found.kind, found.effect) == (entry.kind, entry.effect), (entry, found.reason)
    assert found.reason


def test_the_corpus_is_large_and_sound() -> None:
    assert len(ENTRIES) >= 600
    assert {entry.kind for entry in ENTRIES} == set(get_args(Kind))
    assert all(entry.why for entry in ENTRIES)
    seen = [(entry.dialect, entry.sent, entry.sql) for entry in ENTRIES]
    assert sorted(one for one in set(seen) if seen.count(one) > 1) == []


def test_an_unknown_server_proves_only_what_both_prove() -> None:
    for entry in ENTRIES:
        if entry.dialect != "sqlite":
            rank = RANK[verdict(entry, None).kind]
            both = [RANK[verdict(entry, dialect).kind] for dialect in ("mysql", "mariadb")]
            assert rank >= max(both) if max(both) < 2 else rank >= 2, entry


def test_what_every_release_proves_is_proven_for_an_unknown_server() -> None:
    oldest_and_newest = [
        Classifier(dialect, version=version)
        for dialect, versions in (("mysql", ("5.7.9", "9.7.4")), ("mariadb", ("10.3.7", "12.1.2")))
        for version in versions
    ]
    seen = 0
    for entry in ENTRIES:
        if entry.dialect == "mysql" and not entry.sent:
            everywhere = {classifier.classify(entry.sql).kind for classifier in oldest_and_newest} == {"read"}
            assert (verdict(entry, None).kind == "read") == everywhere, entry
            seen += everywhere
    assert seen > 120


@pytest.mark.parametrize("text", ["", " ", "\n", ";", "/**/", "-- "])
@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "sqlite", None])
def test_an_empty_text_is_unknown(text: str, dialect: Dialect | None) -> None:
    assert Classifier(dialect).classify(text).kind == "unknown"


class TestVouching:
    """Stored functions that the user calls pure."""

    classifier = Classifier("mysql", ["pure_f", "App.Other"])

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT pure_f(1)",
            "SELECT PURE_F(1)",
            "SELECT pure_f (1)",
            "SELECT `pure_f`(1)",
            "SELECT app.other(1)",
            "SELECT `app`.`other` (1)",
            "SELECT id FROM item WHERE pure_f(app.OTHER(n))",
        ],
    )
    def test_covers_every_spelling(self, sql: str) -> None:
        assert self.classifier.classify(sql).kind == "read"
        assert Classifier("mysql").classify(sql).kind == "query"

    @pytest.mark.parametrize(
        "sql", ["SELECT other(1)", "SELECT x.pure_f(1)", "SELECT x.other(1)", "SELECT pure_g(1)"]
    )
    def test_covers_no_other_function(self, sql: str) -> None:
        assert self.classifier.classify(sql).kind == "query"

    def test_makes_nothing_else_a_read(self) -> None:
        assert self.classifier.classify("SELECT pure_f(GET_LOCK('a', 1))").kind == "locking"
        assert self.classifier.classify("SELECT pure_f(1) FROM item FOR UPDATE").kind == "locking"

    @pytest.mark.parametrize("name", ["", "f()", "a.b.c", "f g", "`f`", "f.", 5, None])
    def test_refuses_what_is_no_name(self, name: str) -> None:
        with pytest.raises(ValueError, match="pure_functions"):
            Classifier("mysql", [name])

    @pytest.mark.parametrize("name", ["GET_LOCK", "last_insert_id", "nextval"])
    def test_refuses_what_is_never_pure(self, name: str) -> None:
        with pytest.raises(ValueError, match="never a pure read"):
            Classifier("mysql", [name])

    def test_refuses_one_string(self) -> None:
        with pytest.raises(ValueError, match="names"):
            Classifier("mysql", "pure_f")


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="dialect"):
        Classifier("postgres")  # type: ignore[arg-type]


def test_a_refused_text_is_no_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier("mysql")
    long = "SELECT '" + "x" * statements.KEEP_LENGTH + "'"
    for sql in ("SELECT 1", "SELECT f(1)", long):
        assert classifier.classify(sql).kind in ("read", "query")
        classifier.demote(sql)
        assert classifier.classify(sql).kind == "unknown"
        assert "refused" in classifier.classify(sql).reason
    for number in range(2 * statements.KEEP_ENTRIES):
        classifier.classify(f"SELECT {number} + 1")
    assert classifier.classify("SELECT 1").kind == "unknown"
    assert classifier.classify("SELECT 2").kind == "read"


def test_a_refused_text_keeps_a_stricter_kind() -> None:
    classifier = Classifier("mysql")
    classifier.demote("DELETE FROM item")
    assert classifier.classify("DELETE FROM item").kind == "write"


def test_memory_of_refused_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "KEEP_DEMOTED", 10)
    classifier = Classifier("mysql")
    for number in range(100):
        classifier.demote(f"SELECT {number}")
    assert len(classifier._demoted) == 10
    assert classifier.classify("SELECT 99").kind == "unknown"
    assert classifier.classify("SELECT 0").kind == "read"


def test_the_cache_is_bounded_in_entries() -> None:
    classifier = Classifier("mysql")
    for number in range(3 * statements.KEEP_ENTRIES):
        classifier.classify(f"SELECT {number}")
    assert len(classifier._recent) + len(classifier._older) <= statements.KEEP_ENTRIES
    assert classifier._recent


def test_the_cache_is_bounded_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "KEEP_CHARACTERS", 10_000)
    classifier = Classifier("mysql")
    for number in range(1000):
        classifier.classify(f"SELECT {number}, '{'x' * 500}'")
        kept = (*classifier._recent, *classifier._older)
        assert sum(map(len, kept)) <= 10_000 + 2 * 520


def test_long_texts_are_not_kept() -> None:
    classifier = Classifier("mysql")
    assert classifier.classify("SELECT '" + "x" * statements.KEEP_LENGTH + "'").kind == "read"
    assert not classifier._recent


def test_a_kept_text_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier("mysql")
    first = classifier.classify("SELECT 1")

    def fail(*_: object) -> None:
        raise AssertionError("classified twice")

    monkeypatch.setattr(statements, "_classify", fail)
    assert classifier.classify("SELECT 1") is first
    with pytest.raises(AssertionError):
        classifier.classify("SELECT 2")


def test_a_text_in_use_stays_in_the_cache() -> None:
    classifier = Classifier("mysql")
    hot = classifier.classify("SELECT 'hot'")
    for number in range(3 * statements.KEEP_ENTRIES):
        classifier.classify(f"SELECT {number}")
        if number % 100 == 0:
            assert classifier.classify("SELECT 'hot'") is hot


def test_threads_get_the_same_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "KEEP_ENTRIES", 16)
    classifier = Classifier("mysql")
    wrong: list[object] = []
    classifier.demote("SELECT 7")

    def work() -> None:
        for number in range(400):
            sql = f"SELECT {number % 40}"
            kind = classifier.classify(sql).kind
            if kind != ("unknown" if sql == "SELECT 7" else "read"):
                wrong.append((sql, kind))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(8, work)
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert len(classifier._recent) + len(classifier._older) <= 16


class TestLongTexts:
    """Megabytes are read once, or not at all (active_record_proxy_adapters #113 #71)."""

    @staticmethod
    def steps(monkeypatch: pytest.MonkeyPatch, sql: str) -> int:
        """Tokens read while `sql` is classified."""
        count = 0
        real = tokens.lex

        def counted(*args: object) -> Iterator[tokens.Token]:
            nonlocal count
            for token in real(*args):  # type: ignore[arg-type]
                count += 1
                yield token

        monkeypatch.setattr(statements, "lex", counted)
        Classifier("mysql").classify(sql)
        return count

    @pytest.mark.lesson(7)
    def test_of_a_long_insert_only_the_first_word_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sql = "/* x */ INSERT INTO item VALUES " + ",".join(["('it''s \\\\', 1)"] * 100_000)
        assert self.steps(monkeypatch, sql) == 0
        assert Classifier("mysql").classify(sql).kind == "write"

    @pytest.mark.lesson(7)
    @pytest.mark.parametrize(
        "build",
        [
            lambda n: "SELECT id FROM item WHERE id IN (" + "1, " * n + "1)",
            lambda n: "SELECT id FROM item WHERE name IN (" + "'it''s', " * n + "'')",
            lambda n: "SELECT 1" + " /* x */" * n + " + 1",
            lambda n: "SELECT " + "(" * n + "1" + ")" * n,
            lambda n: "SELECT " + "(SELECT " * n + "1" + ")" * n,
            lambda n: "SELECT 1" + " UNION SELECT 1" * n,
            lambda n: "WITH a AS (SELECT 1)" + ", b (c) AS (SELECT 1)" * n + " SELECT 1",
        ],
    )
    def test_steps_grow_with_the_length(self, monkeypatch: pytest.MonkeyPatch, build) -> None:  # type: ignore[no-untyped-def]
        few, many = (self.steps(monkeypatch, build(n)) for n in (1000, 10_000))
        assert Classifier("mysql").classify(build(10_000)).kind == "read"
        assert many <= 10 * few

    @pytest.mark.parametrize("quote", ["'", '"', "`", "/*", "'\\", "'\\'", "/*!", "/*+", "\\"])
    def test_what_never_closes_is_read_once(self, monkeypatch: pytest.MonkeyPatch, quote: str) -> None:
        sql = "SELECT " + quote + " a" * 200_000
        assert self.steps(monkeypatch, sql) <= 4 * 400_000
        assert Classifier("mysql").classify(sql).kind == "unknown"


@pytest.mark.parametrize("text", ["SELECT s. currval", "SELECT s . currval", "SELECT s./* x */currval"])
def test_a_sequence_belongs_to_the_session_however_its_dot_is_spaced(text: str) -> None:
    assert Classifier("mariadb").classify(text).kind == "session"


def test_advancing_a_sequence_is_a_write_however_its_dot_is_spaced() -> None:
    assert Classifier("mariadb").classify("SELECT s. nextval").kind == "write"


def test_the_oracle_modes_row_count_belongs_to_the_session() -> None:
    classifier = Classifier("mariadb")
    assert classifier.classify("SELECT sql %% rowcount").kind == "session"
    assert classifier.classify("SELECT rowcount, t.rowcount FROM t").kind == "read"


def test_bytes_go_to_the_primary() -> None:
    assert Classifier("mysql").classify(b"SELECT 1").kind == "unknown"  # type: ignore[arg-type]
