"""What the library does about a failure: by error number, and for writes that may have happened."""

from __future__ import annotations

from typing import get_args

import pytest

from peewee_replicas.connections.failures import TREATMENTS, ejects, may_have_happened
from peewee_replicas.servers.error_meanings import Meaning, meaning

# What facts are known of each number: a read in autocommit, the node, and a write that failed so.
ROWS = {
    (2002, 2003, 2005): ("next", "eject", "not executed"),
    (2006,): ("again", "drop", "not executed"),
    (2013,): ("once more", "drop", "unknown"),
    (2014, 2027, 2055): ("again", "drop", "not executed"),
    (2012, 2026, 1129, 1130, 1820): ("next", "eject if idle", "not executed"),
    (1040, 1203, 1226): ("next", "back off", "not executed"),
    (1053, 1077, 1079, 3032): ("next", "eject", "unknown"),
    (1927, 3169, 4031): ("once more", "drop", "unknown"),
    (1047,): ("next", "eject", "not executed"),
    (1290, 1836, 1874, 1792): ("primary", "keep", "not executed"),
    (1146, 1049, 1054, 1305, 1191, 1176): ("primary", "keep", "not executed"),
    (1044, 1045, 1142, 1143, 1227, 1370): ("primary", "keep", "not executed"),
    (1814, 1812, 1030, 1034, 1194, 1038): ("elsewhere", "suspect", "not executed"),
    (1205, 1213, 1020, 1317, 1969, 3024, 1153): ("raise", "keep", "not executed"),
    (1064, 1062, 1048, 1451, 1452, 6, 9999): ("raise", "keep", "not executed"),
}
CASES = [(number, row) for numbers, row in ROWS.items() for number in numbers]


@pytest.mark.parametrize(("number", "row"), CASES)
@pytest.mark.parametrize("name", ["OperationalError", "InternalError", "ProgrammingError"])
def test_the_number_decides_whatever_the_class(name: str, number: int, row: tuple[str, ...]) -> None:
    assert TREATMENTS[meaning(name, (number, "words"))] == row


def test_each_meaning_has_a_treatment() -> None:
    assert set(TREATMENTS) == set(get_args(Meaning))


EJECTED = {
    "unreachable": (True, True),
    "lost": (True, True),
    "leaving": (True, True),
    "misconfigured": (True, False),
    "busy": (False, False),
    "exhausted": (False, False),
    "missing": (False, False),
    "statement": (False, False),
}


@pytest.mark.parametrize("found", EJECTED)
def test_a_node_that_cannot_be_connected_to_leaves_the_rotation(found: Meaning) -> None:
    """Not where the failure says nothing about it, and open connections go on."""
    assert (ejects(found, in_use=False), ejects(found, in_use=True)) == EJECTED[found]


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
