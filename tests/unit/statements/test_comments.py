"""A comment of tags cannot end early, and cannot change the statement that it is added to.

The members are the characters that could end a comment or begin another thing in it (``*/``, quotes, a
percent sign, a line end, a backslash), the statements whose own comment could swallow it, and those whose
text the server keeps (listed from the objects with a body in both servers' manuals). What a hook may start is
a statement, a thread and a task; only a task inherits the hook's context.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.characters import CHARACTERS

from peewee_replicas import ConfigurationError, ReplicatedSqliteDatabase
from peewee_replicas.events import ask_for_comment
from peewee_replicas.statements.classifier import Classifier
from peewee_replicas.statements.comments import comment_of, may_have_comment, with_comment


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


def test_tags_are_sorted_and_encoded_as_sqlcommenter_does() -> None:
    tags = {"route": "/users/*/it's", "action": "show all", "none": None, "n": 1}
    assert comment_of(tags) == "/*action='show%20all',n='1',route='%2Fusers%2F%2A%2Fit%27s'*/"
    assert comment_of({}) == comment_of({"a": None}) == ""


# What means something in a comment would hardly be met among all characters.
MARKS = st.sampled_from(["*/", "/*", "!", "+", "'"])
TEXTS = st.lists(st.one_of(MARKS, st.text(CHARACTERS, max_size=8)), max_size=4).map("".join)


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3))
def test_no_tag_ends_the_comment(tags: dict[str, str]) -> None:
    comment = comment_of(tags)
    assert comment.index("*/") == len(comment) - 2
    assert comment.rindex("/*") == 0
    assert comment[2] not in "!+"
    assert comment.isascii()
    assert comment.isprintable()
    assert unquote(comment).count("'") >= 2 * len(tags)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1 /*a='b'*/"),
        ("SELECT 1;", "SELECT 1 /*a='b'*/"),
        ("SAVEPOINT `s`; \n", "SAVEPOINT `s` /*a='b'*/"),
    ],
)
def test_a_comment_goes_before_the_semicolon(sql: str, expected: str) -> None:
    assert with_comment(sql, "/*a='b'*/") == expected


@pytest.mark.parametrize(
    "sql", ["SELECT 1 /* mine */", "SELECT 1 -- mine", "DELETE FROM t /* WHERE", "SELECT 1 # x"]
)
def test_a_statement_with_a_comment_gets_no_second_one(sql: str) -> None:
    asked: list[str] = []
    assert not may_have_comment(sql)
    assert ask_for_comment([lambda text: asked.append(text) or {"a": "b"}], sql) == ""
    assert not asked


@pytest.mark.parametrize("verb", ["CREATE", "create or replace", "ALTER", " \n CREATE DEFINER=`a`@`%`"])
@pytest.mark.parametrize("kept", ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "VIEW", "PACKAGE BODY"])
def test_a_statement_whose_text_is_kept_gets_none(verb: str, kept: str) -> None:
    assert ask_for_comment([lambda _: {"a": "b"}], f"{verb} {kept} p ...") == ""


def test_what_a_hook_starts_gets_comments_once_the_hook_has_ended() -> None:
    started: list[Context] = []
    inside: list[str] = []

    def ask() -> str:
        return ask_for_comment([hook], "SELECT 1")

    def hook(_sql: str) -> dict[str, str]:
        started.append(copy_context())  # as `asyncio.create_task()` does
        inside.append(ask())
        return {"a": "b"}

    assert ask() == "/*a='b'*/"
    assert inside == [""]
    assert started[0].run(ask) == "/*a='b'*/"


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "INSERT INTO t VALUES (%s)", "SELECT f(x) FROM t FOR UPDATE", "BEGIN"]
)
def test_a_commented_text_has_the_kind_of_the_plain_one(sql: str) -> None:
    classify = Classifier(None).classify
    assert classify(with_comment(sql, comment_of({"a": "b"}))).kind == classify(sql).kind


def test_a_hook_that_fails_costs_its_tags_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_sql: str) -> Any:
        raise ZeroDivisionError

    assert ask_for_comment([fail, lambda _: None, lambda _: {"a": "b"}], "SELECT 1") == "/*a='b'*/"
    assert "a callable in comment_hooks has failed" in caplog.text


@pytest.mark.parametrize("value", ["/caf\udcff", Unprintable()])
def test_a_value_that_cannot_be_sent_costs_its_tags_alone(
    value: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask_for_comment([lambda _: {"route": value}, lambda _: {"a": "b"}], "SELECT 1") == "/*a='b'*/"
    assert "a callable in comment_hooks has failed" in caplog.text


def test_sqlite_says_that_nobody_would_read_them(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="no server"):
        ReplicatedSqliteDatabase(tmp_path / "a.db").comment_hooks  # noqa: B018
