"""What an error means for a read, a node and a write: the whole table."""

from __future__ import annotations

from typing import get_args

import pytest

from peewee_replicas.servers.error_meanings import (
    NO_CONNECTION,
    TABLE,
    TREATMENTS,
    Meaning,
    explained,
    may_have_happened,
    meaning,
    remedy,
)

# What facts are known of each number: a read in autocommit, the node, and a write that failed so.
ROWS = {
    (2002, 2003, 2005): ("next", "eject", "not executed"),
    (2006,): ("again", "drop", "not executed"),
    (2013,): ("once more", "drop", "unknown"),
    (2014, 2027, 2055): ("again", "drop", "not executed"),
    (2012, 2026, 1129, 1130): ("next", "eject", "not executed"),
    (1040, 1203, 1226): ("next", "back off", "not executed"),
    (1053, 1077, 1079, 3032): ("next", "eject", "unknown"),
    (1927, 3169, 4031): ("once more", "drop", "unknown"),
    (1047,): ("next", "eject", "not executed"),
    (1290, 1836, 1874, 1792): ("primary", "keep", "not executed"),
    (1146, 1049, 1054, 1305): ("primary", "keep", "not executed"),
    (1205, 1213, 1020, 1317, 1969, 3024): ("raise", "keep", "not executed"),
    (1064, 1062, 1048, 1451, 1452, 1044, 1045, 1142, 1227, 1, 9999): ("raise", "keep", "not executed"),
}
CASES = [(number, row) for numbers, row in ROWS.items() for number in numbers]


@pytest.mark.parametrize(("number", "row"), CASES)
@pytest.mark.parametrize("name", ["OperationalError", "InternalError", "ProgrammingError"])
def test_the_number_decides_whatever_the_class(name: str, number: int, row: tuple[str, ...]) -> None:
    assert TREATMENTS[meaning(name, (number, "words"))] == row


def test_each_number_has_one_row() -> None:
    numbers = [number for _, row in TABLE for number in row]
    assert len(numbers) == len(set(numbers))
    assert set(TREATMENTS) == set(get_args(Meaning))


@pytest.mark.parametrize("number", [2013, 1290, 1064, 1040])
def test_the_message_decides_nothing(number: int) -> None:
    misleading = ("Lost connection", "read-only", "Can't connect", "server has gone away", "")
    assert len({meaning("OperationalError", (number, text)) for text in misleading}) == 1


def test_what_the_driver_says_of_its_own_socket() -> None:
    assert meaning("InterfaceError", (0, "")) == "not sent"
    assert meaning("OperationalError", (0, "")) == "statement"
    assert meaning("InternalError", ("Packet sequence number wrong - got 1 expected 2",)) == "lost"


@pytest.mark.parametrize("name", ["ProgrammingError", "DataError", "ValueError", "TypeError"])
def test_errors_without_a_number_are_the_statements(name: str) -> None:
    assert meaning(name, ("words",)) == "statement"
    assert meaning(name, ()) == "statement"


@pytest.mark.parametrize("number", [1044, 1045, 1251, 1698, 2059, 3159])
def test_a_refused_user_is_configuration_only_while_connecting(number: int) -> None:
    assert meaning("OperationalError", (number, "denied"), connecting=True) == "misconfigured"
    assert meaning("OperationalError", (number, "denied")) == "statement"


def test_tls_behind_a_failure_to_connect_is_configuration() -> None:
    assert meaning("OperationalError", (2003, "refused"), connecting=True, tls=True) == "misconfigured"
    assert meaning("OperationalError", (2003, "refused"), connecting=True) == "unreachable"


def test_only_what_is_said_of_connections_counts_against_a_node_that_is_being_opened() -> None:
    others = {"refused", "missing", "statement"}
    assert set(get_args(Meaning)) - others == NO_CONNECTION


@pytest.mark.parametrize("number", [2026, 1129, 1130, 1045])
def test_configuration_is_called_so_and_says_what_to_check(number: int) -> None:
    words = remedy(number, "misconfigured")
    assert words.startswith("configuration: ")
    assert "check" in words or "raise" in words


def test_a_certificate_that_fails_is_no_matter_of_host_and_port() -> None:
    assert "certificate" in remedy(2003, "misconfigured")
    assert "port" in remedy(2003, "unreachable")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((2013, "Lost"), (2013, "replica-1: Lost; look")),
        ((0, ""), (0, "replica-1: its connection is lost; look")),
        (("out of step",), ("replica-1: out of step; look",)),
        ((), ("replica-1: its connection is lost; look",)),
    ],
)
def test_the_node_is_named_and_the_number_stays_first(
    arguments: tuple[object, ...], expected: object
) -> None:
    assert explained(arguments, "replica-1", "", "look") == expected


# found, kind, text, in a transaction: may it have happened?
UNKNOWN = [
    ("lost", "write", "INSERT INTO t VALUES (1)", False, True),
    ("lost", "write", "/* c */ INSERT INTO t VALUES (1)", False, True),
    ("lost", "unknown", "CALL p()", False, True),
    ("lost", "query", "SELECT f()", False, True),
    ("lost", "write", "CREATE TABLE t (n INT)", False, True),
    ("lost", "read", "SELECT 1", False, False),
    ("lost", "locking", "SELECT 1 FROM t FOR UPDATE", False, False),
    ("lost", "query", "SHOW TABLES", False, False),
    ("lost", "session", "SET autocommit = 1", False, False),
    ("lost", "transaction", "BEGIN", False, False),
    ("lost", "transaction", "COMMIT", True, True),
    ("lost", "transaction", " commit", True, True),
    ("lost", "transaction", "START TRANSACTION", True, True),  # commits what was open
    ("lost", "write", "DROP TABLE t", True, True),
    ("lost", "unknown", "CALL p()", True, True),
    ("lost", "write", "INSERT INTO t VALUES (1)", True, False),  # rolled back with its connection
    ("lost", "write", "UPDATE t SET n = 1", True, False),
    ("lost", "transaction", "ROLLBACK", True, False),
    ("lost", "transaction", "SAVEPOINT a", True, False),
    ("killed", "transaction", "COMMIT", True, True),
    ("leaving", "transaction", "COMMIT", True, True),
    ("killed", "write", "INSERT INTO t VALUES (1)", False, False),  # the server has answered
    ("not sent", "transaction", "COMMIT", True, False),
    ("not sent", "write", "INSERT INTO t VALUES (1)", False, False),
    ("unreachable", "write", "INSERT INTO t VALUES (1)", False, False),
    ("statement", "transaction", "COMMIT", True, False),
    ("refused", "transaction", "COMMIT", True, False),
]


@pytest.mark.parametrize(("found", "kind", "text", "transaction", "expected"), UNKNOWN)
def test_whether_a_failed_statement_may_have_happened(
    found: Meaning, kind: str, text: str, transaction: bool, expected: bool
) -> None:
    assert may_have_happened(found, kind, text, transaction=transaction) is expected
    assert may_have_happened(found, kind, text.encode(), transaction=transaction) is expected
