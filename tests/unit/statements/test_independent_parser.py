"""An independent parser finds nothing but reading in what the classifier calls a read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import sqlglot
from sqlglot import exp
from support.statements.entries import ENTRIES, VERSIONS, generated

from peewee_replicas.statements.classifier import Classifier, Dialect

pytestmark = pytest.mark.once

FORBIDDEN = (
    exp.DML,
    exp.DDL,
    exp.Create,
    exp.Drop,
    exp.Alter,
    exp.Set,
    exp.Use,
    exp.Command,
    exp.Lock,
    exp.Into,
    exp.Transaction,
    exp.Commit,
    exp.Rollback,
    exp.Merge,
    exp.TruncateTable,
    exp.Pragma,
    exp.Parameter,
    exp.SessionParameter,
    exp.NextValueFor,
    exp.PropertyEQ,
)
QUERIES = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Table, exp.Paren)


def forbidden(tree: exp.Expression) -> Iterator[exp.Expression]:
    for node in tree.walk():
        # sqlglot counts queries among the DDL, as what a CREATE can hold.
        if isinstance(node, FORBIDDEN) and not isinstance(node, exp.Query):
            yield node


def parsed(sql: str, dialect: Dialect) -> list[exp.Expression] | None:
    try:
        trees = sqlglot.parse(sql, read="sqlite" if dialect == "sqlite" else "mysql")
    except sqlglot.errors.SqlglotError:
        return None
    return [tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon)]


def agree(sql: str, dialect: Dialect) -> bool:
    """Whether `sql` could be compared; fails if the parser finds more than reading."""
    trees = parsed(sql, dialect)
    if not trees:
        return False
    assert len(trees) == 1, sql
    assert isinstance(trees[0], QUERIES), (sql, trees[0])
    assert [*forbidden(trees[0])] == [], sql
    return True


@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "sqlite"])
def test_the_corpus(dialect: Dialect) -> None:
    classifier = Classifier(dialect, version=VERSIONS[dialect])
    compared = 0
    for entry in ENTRIES:
        if entry.dialect == dialect and classifier.classify_sent(entry.sql).kind == "read":
            compared += agree(entry.sql, dialect)
    assert compared > 60


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
@pytest.mark.parametrize("seed", range(4))
def test_generated_statements(dialect: Dialect, seed: int) -> None:
    classifier = Classifier(dialect, version=VERSIONS[dialect])
    reads = compared = 0
    for sql in islice(generated(seed, dialect), 700):
        if classifier.classify_sent(sql).kind == "read":
            reads += 1
            compared += agree(sql, dialect)
    assert reads > 200
    assert compared > 0.8 * reads


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_the_generator_makes_every_kind_and_repeats_itself(dialect: Dialect) -> None:
    classifier = Classifier(dialect, version=VERSIONS[dialect])
    texts = [*islice(generated(1, dialect), 1500)]
    assert texts == [*islice(generated(1, dialect), 1500)]
    assert texts != [*islice(generated(2, dialect), 1500)]
    kinds = {classifier.classify_sent(sql).kind for sql in texts}
    assert kinds == {"read", "query", "locking", "write", "session", "unknown"}


def test_the_parser_sees_what_is_forbidden() -> None:
    for sql in (
        "SELECT 1 FROM t FOR UPDATE",
        "SELECT @a",
        "DELETE FROM t",
        "SELECT @a := 1",
        "WITH a AS (SELECT 1) DELETE FROM t",
    ):
        trees = parsed(sql, "mysql")
        assert trees
        assert [*forbidden(trees[0])] != [], sql
