"""`explain` shows at which token the proof of a read stops.

The kind is every statement of the corpus: the proof must stop exactly for those that the classifier does not
take for reads, under every quoting mode. The table shows the token for each sort of obstacle.
"""

from __future__ import annotations

import pytest
from support.statements.entries import ENTRIES, VERSIONS

from peewee_replicas.cli.explain import MOST_TOKENS, Proof, prove
from peewee_replicas.statements.classifier import Classifier

pytestmark = pytest.mark.pure

RULES = Classifier("mysql", version=VERSIONS["mysql"]).rules


def test_the_proof_agrees_with_the_classifier_on_the_whole_corpus() -> None:
    reads = 0
    for entry in ENTRIES:
        if entry.sent:
            continue
        classifier = Classifier(entry.dialect, version=VERSIONS[entry.dialect])
        proof = prove(entry.sql, classifier.rules)
        if proof is None or len(entry.sql) > 4000:
            continue
        proven = classifier.classify(entry.sql).kind == "read"
        assert (proof.why == "") is proven, (entry.place, proof)
        assert proof.lines(), entry.place
        reads += proven
    assert reads > 50


@pytest.mark.parametrize(
    ("sql", "token", "why"),
    [
        ("SELECT name, my_func(id) FROM t", "(", "my_func() is not known to be pure"),
        ("SELECT count (1) FROM t", "(", "with a space"),
        ("SELECT * FROM t FOR UPDATE", "FOR", "takes row locks"),
        ("SELECT 1 INTO OUTFILE 'x'", "INTO", "writes a file"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "DELETE", "DELETE writes"),
        ("SELECT host FROM mysql.user", ".", "the server's own schema"),
        ("UPDATE t SET n = 1", "UPDATE", "UPDATE writes"),
        ("SHOW TABLES", "SHOW", "SHOW"),
        ("SELECT 1; SELECT 2", "SELECT", "several statements"),
        ("SELECT GET_LOCK('a', 1)", "(", "locks of the session"),
    ],
)
def test_the_token_is_named(sql: str, token: str, why: str) -> None:
    proof = prove(sql, RULES)
    assert proof is not None
    assert proof.stops_at is not None
    assert proof.tokens[proof.stops_at] == token
    assert why in proof.why
    lines = proof.lines()
    assert lines[-1] == f"  stop  {token}    <- {proof.why}"
    assert len(lines) == proof.stops_at + 1


def test_a_text_that_fails_as_a_whole_says_so() -> None:
    for sql in ("", "SELECT '%'"):
        proof = prove(sql, RULES)
        assert proof is not None
        assert proof.stops_at is None
        assert proof.lines() == [f"  stop  (the whole text)    <- {proof.why}"]


def test_a_read_is_shown_to_its_end() -> None:
    assert prove("SELECT n FROM t", RULES) == Proof(("SELECT", "n", "FROM", "t"), None, "")
    assert prove("SELECT 1;", RULES) == Proof(("SELECT", "1", ";"), None, "")


def test_a_statement_that_is_too_long_is_not_shown() -> None:
    assert prove("SELECT " + ", ".join(["n"] * MOST_TOKENS), RULES) is None
