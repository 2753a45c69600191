"""What is known of one release is not taken for another: a name that a server lacks is a stored function.

Members of the kind: every name in the lists of built-in functions and of the grammar's words, on every
release of both servers. The lists of MariaDB 10.5, 10.11, 11.8 and MySQL 9.7 were found by calling every
name in the server's program file; the releases that other names came with or went with, in the manuals and
sources. MySQL 8.0 and 8.4 are held by the tables alone. Further members: greetings that tell no release, or
hide it; nodes of several releases, or of both servers; and a text that was classified before its node was
met.
"""

from __future__ import annotations

import threading

import pytest

from peewee_replicas.statements import classifier as module
from peewee_replicas.statements.classifier import Classifier, Dialect
from peewee_replicas.statements.versions import Span, Version, names_at, span_of

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("greeting", "low", "high"),
    [
        ("8.0.36", (8, 0, 36), (8, 0, 36)),
        ("8.0.36-28.1 Percona Server", (8, 0, 36), (8, 0, 36)),
        ("8.4.3-commercial", (8, 4, 3), (8, 4, 3)),
        ("9.7.4-2", (9, 7, 4), (9, 7, 4)),
        ("5.5.5-10.11.19-MariaDB-0+deb12u1", (10, 11, 19), (10, 11, 19)),
        ("10.6.12-MariaDB-log", (10, 6, 12), (10, 6, 12)),
        ("11.8.9-MariaDB-0+deb13u1 from Debian", (11, 8, 9), (11, 8, 9)),
        ("5.5.30", (5, 5, 30), (5, 5, 30)),
        ("8.0.mysql_aurora.3.05.2", (8, 0, 11), (8, 0, 999)),
        ("5.7.mysql_aurora.2.11.1", (5, 7, 9), (5, 7, 999)),
        ("8.4", (8, 4, 0), (8, 4, 999)),
    ],
)
def test_the_release_in_a_greeting(greeting: str, low: tuple[int, ...], high: tuple[int, ...]) -> None:
    assert span_of(greeting) == Span(Version(*low), Version(*high))


@pytest.mark.parametrize("greeting", ["", "MariaDB", "v8", "8", "x8.0.36", "..", "8.", "5.5.5-MariaDB"])
def test_a_greeting_that_tells_no_release(greeting: str) -> None:
    assert span_of(greeting) is None


SINCE = {"5.7.9": "a b", "5.7.22 8.0.11": "c", "8.0.16": "d"}
REMOVED = {"9.6.0": "b"}


@pytest.mark.parametrize(
    ("greeting", "names"),
    [
        ("5.6.51", ""),
        ("5.7.9", "a b"),
        ("5.7.21", "a b"),
        ("5.7.22", "a b c"),
        ("8.0.4", "a b"),  # a series between the two that got it
        ("8.0.11", "a b c"),
        ("8.0.15", "a b c"),
        ("8.0.16", "a b c d"),
        ("9.5.9", "a b c d"),
        ("9.6.0", "a c d"),
        ("10.0.0", "a c d"),
        ("8.0", "a b c"),  # d may be missing
    ],
)
def test_names_by_release(greeting: str, names: str) -> None:
    span = span_of(greeting)
    assert span is not None
    assert names_at(SINCE, REMOVED, span) == frozenset(names.split())


def test_of_a_series_in_which_a_name_was_removed_no_release_is_sure_to_have_it() -> None:
    assert names_at({"8.0.0": "a"}, {"9.6.1": "a"}, Span(Version(9, 6, 0), Version(9, 6, 999))) == set()


# A call, a release without the function, and one with it.
BOUNDARIES: list[tuple[str, Dialect, str, str]] = [
    ("MD5('a')", "mysql", "9.6.0", "9.5.0"),
    ("SHA('a')", "mysql", "9.7.4", "8.4.3"),
    ("SHA1('a')", "mysql", "9.6.0", "8.0.36"),
    ("RANK() OVER (ORDER BY n)", "mysql", "5.7.44", "8.0.11"),
    ("REGEXP_LIKE(name, 'a')", "mysql", "5.7.44", "8.0.11"),
    ("JSON_ARRAYAGG(n)", "mysql", "5.7.21", "5.7.22"),
    ("JSON_OVERLAPS('[1]', '[1]')", "mysql", "8.0.16", "8.0.17"),
    ("JSON_VALUE('[1]', '$')", "mysql", "8.0.20", "8.0.21"),
    ("ST_LATITUDE(g)", "mysql", "8.0.11", "8.0.12"),
    ("ST_COLLECT(g)", "mysql", "8.0.23", "8.0.24"),
    ("FORMAT_BYTES(1)", "mysql", "8.0.15", "8.0.16"),
    ("VECTOR_DIM(v)", "mysql", "8.4.3", "9.0.0"),
    ("1 MEMBER OF('[1]')", "mysql", "5.7.44", "8.0.17"),
    ("UUID_V7()", "mariadb", "10.11.19", "11.8.9"),
    ("UUID_V4()", "mariadb", "11.4.5", "11.7.2"),
    ("FORMAT_BYTES(1)", "mariadb", "11.7.2", "11.8.2"),
    ("RANDOM_BYTES(4)", "mariadb", "10.6.22", "10.11.2"),
    ("TO_CHAR(NOW())", "mariadb", "10.5.29", "10.6.3"),
    ("ROWNUM()", "mariadb", "10.5.29", "10.11.6"),
    ("JSON_ARRAYAGG(n)", "mariadb", "10.4.34", "10.5.29"),
    ("JSON_PRETTY('[1]')", "mariadb", "10.6.11", "10.6.12"),
    ("JSON_PRETTY('[1]')", "mariadb", "10.5.18", "10.5.19"),
    ("JSON_PRETTY('[1]')", "mariadb", "10.10.2", "10.11.2"),
    ("ST_DISTANCE_SPHERE(g, g)", "mariadb", "10.5.9", "10.5.10"),
    ("SFORMAT('{}', 1)", "mariadb", "10.6.22", "10.11.2"),
    ("KDF('a', 'b')", "mariadb", "11.2.6", "11.4.5"),
    ("DES_ENCRYPT('a')", "mariadb", "12.0.2", "11.8.9"),
]


@pytest.mark.parametrize(("call", "dialect", "without", "having"), BOUNDARIES)
def test_a_function_is_pure_only_where_it_is_built_in(
    call: str, dialect: Dialect, without: str, having: str
) -> None:
    sql = f"SELECT {call} FROM place"
    suffix = "-MariaDB" if dialect == "mariadb" else ""
    assert Classifier(dialect, version=having + suffix).classify(sql).kind == "read"
    assert Classifier(dialect, version=without + suffix).classify(sql).kind == "query"
    assert Classifier(dialect).classify(sql).kind == "query"  # no release known: not in all of them
    vouched = Classifier(dialect, [call.partition("(")[0].split()[-1]], without + suffix)
    assert vouched.classify(sql).kind == "read"


@pytest.mark.parametrize(
    ("sql", "without", "having"),
    [
        ("SELECT OVER(n) FROM item", "5.7.44", "8.0.11"),
        ("SELECT INTERSECT(n) FROM item", "8.0.30", "8.0.31"),
        ("SELECT EXCEPT(n) FROM item", "5.7.44", "8.0.31"),
        ("SELECT id FROM item, LATERAL(SELECT 1) AS t", "5.7.44", "8.0.36"),
        ("SELECT * FROM item TABLESAMPLE BERNOULLI(10)", "8.4.3", "9.7.4"),
    ],
)
def test_a_word_is_of_the_grammar_only_where_it_is_known(sql: str, without: str, having: str) -> None:
    # Where it is a word of the grammar, the server refuses what could be no more than a mistake.
    assert Classifier("mysql", version=having).classify(sql).kind == "read"
    assert Classifier("mysql", version=without).classify(sql).kind == "query"


@pytest.mark.parametrize("version", ["", "unreadable", "8", "5.5.5-"])
def test_without_a_release_a_name_counts_that_every_release_has(version: str) -> None:
    classifier = Classifier("mysql", version=version)
    assert classifier.classify("SELECT COUNT(*), JSON_EXTRACT('[1]', '$') FROM item").kind == "read"
    assert classifier.classify("SELECT MD5('a')").kind == "query"
    assert classifier.classify("SELECT RANK() OVER w FROM item WINDOW w AS (ORDER BY n)").kind == "query"


class TestNodesOfSeveralReleases:
    def test_a_name_counts_only_if_all_of_them_have_it(self) -> None:
        classifier = Classifier(None)
        assert classifier.classify("SELECT MD5('a')").kind == "query"
        classifier.learn_server("mysql", "9.5.0")
        assert classifier.classify("SELECT MD5('a')").kind == "read"
        classifier.learn_server("mysql", "9.6.0")
        assert classifier.classify("SELECT MD5('a')").kind == "query"
        classifier.learn_server("mysql", "9.5.0")  # a new connection to the old one changes nothing
        assert classifier.classify("SELECT MD5('a')").kind == "query"
        assert classifier.classify("SELECT SHA2('a', 256)").kind == "read"

    @pytest.mark.parametrize("order", [1, -1])
    def test_whatever_the_order_in_which_they_are_met(self, order: int) -> None:
        classifier = Classifier(None)
        for version in ["10.5.29-MariaDB", "11.8.9-MariaDB", "12.0.2-MariaDB"][::order]:
            classifier.learn_server("mariadb", version)
        found = {
            call: classifier.classify(f"SELECT {call}").kind
            for call in ("UUID_V7()", "DES_ENCRYPT('a')", "NVL(1, 2)", "JSON_PRETTY('[1]')")
        }
        assert found == {
            "UUID_V7()": "query",
            "DES_ENCRYPT('a')": "query",
            "NVL(1, 2)": "read",
            "JSON_PRETTY('[1]')": "read",
        }

    def test_and_of_both_servers(self) -> None:
        classifier = Classifier(None)
        classifier.learn_server("mysql", "8.4.3")
        classifier.learn_server("mariadb", "11.8.9-MariaDB")
        assert classifier.classify("SELECT NVL(1, 2)").kind == "query"
        assert classifier.classify("SELECT REGEXP_LIKE('a', 'a')").kind == "query"
        assert classifier.classify("SELECT MD5('a'), RANK() OVER (ORDER BY n) FROM item").kind == "read"
        assert classifier.classify("SELECT n FROM item FOR SYSTEM_TIME ALL").kind == "unknown"

    def test_one_that_tells_no_release_may_be_of_any(self) -> None:
        classifier = Classifier(None)
        classifier.learn_server("mysql", "8.4.3")
        classifier.learn_server("mysql", "a proxy")
        assert classifier.classify("SELECT MD5('a')").kind == "query"
        assert classifier.classify("SELECT COUNT(*) FROM item").kind == "read"

    def test_a_refused_text_stays_refused(self) -> None:
        classifier = Classifier(None)
        classifier.demote("SELECT COUNT(*) FROM item_view")
        classifier.learn_server("mysql", "8.4.3")
        assert classifier.classify("SELECT COUNT(*) FROM item_view").kind == "unknown"

    def test_kept_texts_stay_where_nothing_changes(self) -> None:
        classifier = Classifier(None)
        classifier.learn_server("mysql", "8.4.3")
        first = classifier.classify("SELECT 1")
        classifier.learn_server("mysql", "8.4.4")  # has the same names
        assert classifier.classify("SELECT 1") is first
        assert first.rules is classifier.rules

    def test_a_statement_keeps_what_it_was_proven_by(self) -> None:
        classifier = Classifier(None)
        classifier.learn_server("mysql", "9.5.0")
        found = classifier.classify("SELECT MD5('a')")
        classifier.learn_server("mysql", "9.7.4")
        assert found.rules is not classifier.rules

    def test_a_text_being_classified_meanwhile_is_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        classifier = Classifier("mysql", version="9.5.0")
        real, inside, learnt = module._classify, threading.Event(), threading.Event()

        def slowly(*args: object) -> object:
            inside.set()
            assert learnt.wait(10)
            return real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_classify", slowly)
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(classifier.classify("SELECT MD5('a')").kind))
        thread.start()
        assert inside.wait(10)
        classifier.learn_server("mysql", "9.7.4")
        learnt.set()
        thread.join()
        assert classifier.classify("SELECT MD5('a')").kind == "query"
