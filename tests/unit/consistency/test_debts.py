"""What a statement on the primary leaves unknown to its context, as a table.

A reported position may be one of several, and with several GTID domains it then says nothing of the rest.
The members of this kind: procedures, blocks (`BEGIN NOT ATOMIC`), several statements in one text, prepared
statements, DDL, `SET STATEMENT`, assignments that call functions, everything whose text is not
understood; and reads before or beside the write that reported. They were found by going through all that
can begin a statement (the verbs of `statements/verbs.py`) and asking whether it can commit more than once.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from peewee_replicas.consistency.debts import PLAIN_BEGIN, PLAIN_INSIDE, PLAIN_WRITES, left_by

pytestmark = pytest.mark.pure

# The statement; succeeded, reported, was open, is open, had read; covers reads -> owes, has read.
Y, N = True, False
STATEMENTS: list[tuple[str, tuple[bool, ...], bool, tuple[bool, bool]]] = [
    # autocommit
    ("INSERT INTO t VALUES (1)", (Y, Y, N, N, N), N, (N, N)),
    ("INSERT IGNORE INTO t VALUES (1)", (Y, N, N, N, N), N, (Y, N)),
    ("INSERT INTO t VALUES (1)", (N, N, N, N, N), N, (Y, N)),
    ("UPDATE t SET n = 1", (Y, N, N, N, N), Y, (Y, N)),
    ("SELECT 1", (Y, N, N, N, N), N, (Y, N)),
    ("SELECT 1 FOR UPDATE", (Y, N, N, N, N), N, (Y, N)),
    ("CALL p()", (Y, N, N, N, N), N, (Y, N)),
    ("/* x */ INSERT INTO t VALUES (1)", (Y, N, N, N, N), N, (Y, N)),
    ("(SELECT 1)", (Y, N, N, N, N), N, (Y, N)),
    ("", (Y, N, N, N, N), N, (Y, N)),
    ("SET NAMES utf8mb4", (Y, N, N, N, N), N, (N, N)),
    ("USE other", (Y, N, N, N, N), N, (N, N)),
    ("  set x = 1", (Y, N, N, N, N), N, (N, N)),
    ("SET x = 1", (N, N, N, N, N), N, (Y, N)),
    ("UNLOCK TABLES", (Y, N, N, N, N), N, (N, N)),
    ("SETTLE", (Y, N, N, N, N), N, (Y, N)),
    # what may commit more than once owes whatever it reported
    ("CALL p()", (Y, Y, N, N, N), Y, (Y, N)),
    ("BEGIN NOT ATOMIC INSERT INTO t VALUES (1); END", (Y, Y, N, N, N), Y, (Y, N)),
    ("BEGIN NOT ATOMIC INSERT INTO t VALUES (1); END", (Y, N, N, N, N), Y, (Y, N)),
    ("BEGIN /* x */ NOT ATOMIC DO 1; END", (Y, N, N, N, N), Y, (Y, N)),
    ("IF 1 THEN CALL p(); END IF", (Y, Y, N, N, N), Y, (Y, N)),
    ("EXECUTE s", (Y, Y, N, N, N), Y, (Y, N)),
    ("EXECUTE IMMEDIATE 'CALL p()'", (Y, Y, N, N, N), Y, (Y, N)),
    ("XA COMMIT 'x'", (Y, Y, N, N, N), Y, (Y, N)),
    ("DROP TABLE t, u", (Y, Y, N, N, N), Y, (Y, N)),
    ("ANALYZE TABLE t, u", (Y, Y, N, N, N), Y, (Y, N)),
    ("LOAD DATA INFILE 'x' INTO TABLE t", (Y, Y, N, N, N), Y, (Y, N)),
    ("SELECT f(), n FROM t", (Y, Y, N, N, N), Y, (Y, N)),  # it has written, and read
    ("DO f()", (Y, Y, N, N, N), Y, (Y, N)),
    ("SET @a = f()", (Y, Y, N, N, N), Y, (Y, N)),
    ("SET @a = f()", (Y, N, N, N, N), Y, (Y, N)),
    ("SET STATEMENT gtid_domain_id=1 FOR INSERT INTO t VALUES (1)", (Y, N, N, N, N), Y, (Y, N)),
    ("SET /* x */ STATEMENT gtid_domain_id=1 FOR CALL p()", (Y, N, N, N, N), Y, (Y, N)),
    ("/* x */ SET STATEMENT gtid_domain_id=1 FOR CALL p()", (Y, N, N, N, N), Y, (Y, N)),
    ("SET /*!100000 STATEMENT gtid_domain_id=1 FOR */ DO 1", (Y, N, N, N, N), Y, (Y, N)),
    ("SET @a = 1, @b = 'a\\' , f(1) , 'b'", (Y, N, N, N, N), Y, (Y, N)),  # a call in one quoting mode
    ("/* x */ SET NAMES utf8mb4", (Y, N, N, N, N), Y, (N, N)),
    ("SET gtid_domain_id=1", (Y, N, N, N, N), Y, (N, N)),
    ("START TRANSACTION READ WRITE", (Y, N, N, Y, N), Y, (N, N)),
    ("BEGIN WORK;", (Y, N, N, Y, N), Y, (N, N)),
    ("START SLAVE", (Y, N, N, N, N), Y, (Y, N)),
    ("CALL p()", (Y, N, Y, Y, N), Y, (Y, Y)),
    ("CALL p()", (Y, Y, Y, Y, N), Y, (Y, Y)),
    ("CALL p()", (N, N, Y, Y, N), Y, (Y, Y)),
    ("INSERT INTO myisam VALUES (1)", (Y, Y, Y, Y, Y), N, (N, Y)),  # logged at once; what was read was read
    ("COMMIT AND CHAIN", (Y, Y, Y, Y, Y), N, (Y, N)),
    ("COMMIT AND CHAIN", (Y, Y, Y, Y, Y), Y, (N, N)),
    ("COMMIT AND CHAIN", (Y, N, Y, Y, N), Y, (N, Y)),
    # inside a transaction nothing is owed yet
    ("BEGIN", (Y, N, N, Y, N), N, (N, N)),
    ("INSERT INTO t VALUES (1)", (Y, N, Y, Y, N), N, (N, N)),
    ("SAVEPOINT s", (Y, N, Y, Y, N), N, (N, N)),
    ("RELEASE SAVEPOINT s", (Y, N, Y, Y, Y), N, (N, Y)),
    ("SELECT 1", (Y, N, Y, Y, N), N, (N, Y)),
    ("UPDATE t SET n = 1", (N, N, Y, Y, N), N, (N, Y)),
    ("INSERT INTO t VALUES (1)", (Y, N, Y, Y, Y), N, (N, Y)),
    ("WITH x AS (SELECT 1) UPDATE t SET n = 1", (Y, N, Y, Y, N), N, (N, Y)),
    ("ROLLBACK TO SAVEPOINT s", (Y, N, Y, Y, N), N, (N, Y)),
    # its end
    ("COMMIT", (Y, Y, Y, N, N), N, (N, N)),
    ("COMMIT", (Y, Y, Y, N, N), Y, (N, N)),
    ("COMMIT", (Y, Y, Y, N, Y), N, (Y, N)),
    ("COMMIT", (Y, Y, Y, N, Y), Y, (N, N)),
    ("COMMIT", (Y, N, Y, N, N), N, (Y, N)),
    ("COMMIT", (Y, N, Y, N, Y), Y, (Y, N)),
    ("COMMIT", (N, N, Y, N, N), Y, (Y, N)),
    ("ROLLBACK", (Y, N, Y, N, N), Y, (Y, N)),
    ("SET autocommit = 1", (Y, N, Y, N, N), Y, (Y, N)),
    ("CREATE TABLE u (n INT)", (Y, Y, Y, N, N), N, (Y, N)),
    ("CREATE TABLE u (n INT)", (N, N, Y, N, Y), N, (Y, N)),
    # a BEGIN that commits what was open
    ("BEGIN", (Y, Y, Y, Y, N), N, (N, N)),
    ("BEGIN", (Y, Y, Y, Y, Y), N, (Y, N)),
    ("BEGIN", (Y, N, Y, Y, Y), N, (N, Y)),
]


def outcome(
    text: Any, flags: tuple[bool, ...], covers: bool, more: bool = False, changed: int = 1
) -> tuple[bool, bool]:
    succeeded, reported, was_open, is_open, had_read = flags
    found = left_by(
        text,
        succeeded=succeeded,
        reported=reported,
        was_open=was_open,
        is_open=is_open,
        transaction_has_read=had_read,
        commit_covers_reads=covers,
        more_results=more,
        changed_rows=changed,
    )
    return found


@pytest.mark.parametrize(("text", "flags", "covers", "expected"), STATEMENTS)
def test_what_a_statement_leaves(
    text: str, flags: tuple[bool, ...], covers: bool, expected: tuple[bool, bool]
) -> None:
    assert outcome(text, flags, covers) == expected
    assert outcome(text.encode(), flags, covers) == expected


TEXTS = ["SELECT 1", "INSERT INTO t VALUES (1)", "COMMIT", "ROLLBACK", "BEGIN", "SET x = 1", "", "-- x"]


@pytest.mark.parametrize("text", TEXTS)
def test_what_holds_for_all(text: str) -> None:
    for flags in product((False, True), repeat=5):
        succeeded, reported, was_open, is_open, had_read = flags
        if reported and not succeeded:
            continue  # a failure reports nothing
        for covers in (False, True):
            owes, has_read = outcome(text, flags, covers)
            if not is_open:
                assert not has_read
                if not succeeded:
                    assert owes  # a failure has seen something, or nobody knows what it did
                if was_open and not reported:
                    assert owes
                if text == "SELECT 1" and not reported:
                    assert owes
            if is_open and had_read and not reported:
                assert has_read  # nothing in a transaction takes back that it has read
            if is_open and not succeeded:
                assert has_read
            if covers:  # never more than where reads are not covered
                assert owes <= outcome(text, flags, False)[0]


def test_further_results_are_of_further_statements() -> None:
    for text in (
        "INSERT INTO t VALUES (1); CALL p()",
        "SET x = 1; CALL p()",
        "COMMIT; CALL p()",
        "SELECT 1; DO 1",
    ):
        for reported in (False, True):
            owes, _ = outcome(text, (True, reported, False, False, False), True, more=True)
            assert owes
            owes, _ = outcome(text, (True, reported, True, True, False), True, more=True)
            assert owes


@pytest.mark.parametrize("word", ["INSERT IGNORE INTO", "UPDATE", "DELETE FROM", "REPLACE"])
def test_a_write_of_nothing_in_a_transaction_has_read(word: str) -> None:
    assert outcome(f"{word} t", (Y, N, Y, Y, N), N, changed=0) == (N, Y)
    assert outcome(f"{word} t", (Y, Y, N, N, N), N, changed=0) == (N, N)


@pytest.mark.parametrize("text", ["BEGIN", "SAVEPOINT s", "SET NAMES utf8mb4", "USE other"])
def test_what_never_changes_a_row_has_read_nothing(text: str) -> None:
    assert outcome(text, (Y, N, Y, Y, N), N, changed=0) == (N, N)


def test_the_short_way_for_plain_writes_says_what_the_long_one_says() -> None:
    for start in PLAIN_WRITES:
        text = start + (" INTO t VALUES (1)" if isinstance(start, str) else b" INTO t VALUES (1)")
        for was_open, is_open in product((False, True), repeat=2):
            assert outcome(text, (True, True, was_open, is_open, False), False) == (False, False)


def test_the_short_way_inside_transactions_says_what_the_long_one_says() -> None:
    for start in (*PLAIN_INSIDE, *PLAIN_BEGIN):
        rest = "" if start in PLAIN_BEGIN else " INTO t VALUES (1)"
        text = start + (rest if isinstance(start, str) else rest.encode())
        for was_open, changed in product((False, True), (0, 1) if start in PLAIN_BEGIN else (1,)):
            flags = (True, False, was_open, True, False)
            assert outcome(text, flags, False, changed=changed) == (False, False)
