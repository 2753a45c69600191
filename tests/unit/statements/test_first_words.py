"""The first word of a statement is found in one way, which agrees with the lexer.

Members of the kind: every place that asks for a statement's first word. Found by looking for
``first_word``, ``_FIRST_WORD``, ``lstrip(`` and ``startswith(`` in the package: what a statement on the
primary leaves to its context, what a lost one may have done, whether a failed one may have changed its
session, long writes, and CALL.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.connections.failures import may_have_happened
from peewee_replicas.consistency.debts import left_by
from peewee_replicas.statements.classifier import Classifier
from peewee_replicas.statements.tokens import WORD, QuotingMode, first_word, lex
from peewee_replicas.statements.verbs import LONG_WRITE, long_write


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("select 1", "SELECT"),
        ("\n\t COMMIT", "COMMIT"),
        ("/* c */ COMMIT", "COMMIT"),
        ("/* c */ -- d\n # e\n\tcall p()", "CALL"),
        ("/**/update t", "UPDATE"),
        (" " * 100 + "INSERT", "INSERT"),
        (" " * 77 + "INSERT", "INSERT"),  # the word crosses the end of what is looked at first
        (" " * 74 + "INSERT", "INSERT"),
        ("insert" + "x" * 100, "INSERT" + "X" * 100),
        ("select`a`", "SELECT"),
        ("(SELECT 1)", ""),
        ("/*!50000 INSERT */", ""),
        ("/*M! INSERT */", ""),
        ("/* never closed INSERT", ""),
        ("--INSERT", ""),
        ("`select` 1", ""),
        ("", ""),
        (";", ""),
    ],
)
def test_the_first_word(text: str, word: str) -> None:
    assert first_word(text) == word
    assert first_word(text.encode()) == word
    assert first_word(bytearray(text.encode())) == word


def test_bytes_need_not_be_utf8() -> None:
    assert first_word(b"insert \xff\xfe") == "INSERT"
    assert first_word(b"\xff\xfe") == "\xff\xfe".upper()


PIECES = st.sampled_from(
    [*" \n\v#('`-1$é\u00a0;", "/* a */", "/**/", "-- b\n", "--", "/*!", "/*", "*/", "SELECT", "insert", "x_1"]
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_it_agrees_with_the_lexer(text: str) -> None:
    token = next(lex(text, None, QuotingMode()), None)
    assert first_word(text) == (token.text.upper() if token is not None and token.kind == WORD else "")


@pytest.mark.parametrize("start", [" ", "\t\n", "/**/", "/* a */ ", "-- a\n", "#\n", "/*", "(("])
def test_it_takes_time_in_proportion_to_the_text(start: str) -> None:
    """Blanks before a parenthesis once took time that doubled with each blank."""
    text = start * 20_000 + "(" + "x" * LONG_WRITE
    began = time.perf_counter()
    assert first_word(text) == ""
    assert long_write(text) is None
    assert time.perf_counter() - began < 2.0


# What asks for the first word sees through comments.


def test_a_long_write_behind_a_comment() -> None:
    long = "/* tag */ -- x\nINSERT INTO item VALUES " + "('a')," * LONG_WRITE
    assert Classifier("mysql").classify(long).kind == "write"
    assert long_write(long) is not None


def test_a_lost_insert_behind_a_comment_ends_with_its_transaction() -> None:
    for text in ("INSERT INTO t VALUES (1)", "/* tag */ INSERT INTO t VALUES (1)"):
        assert not may_have_happened("lost", "write", text, transaction=True)
        assert may_have_happened("lost", "write", text, transaction=False)
    assert may_have_happened("lost", "transaction", "/* tag */ COMMIT", transaction=True)


def test_a_setting_behind_a_comment_owes_nothing() -> None:
    for text in ("SET NAMES utf8mb4", "/* tag */ SET NAMES utf8mb4"):
        left = left_by(
            text,
            succeeded=True,
            reported=False,
            was_open=False,
            is_open=False,
            transaction_has_read=False,
            commit_covers_reads=False,
        )
        assert not left.owes
