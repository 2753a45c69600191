"""What an error means for a read: the whole table."""

from __future__ import annotations

import pytest

from peewee_replicas.failures import NO_CONNECTION, meaning

TABLE = {
    "unreachable": (2002, 2003, 2005, 2012, 2026, 1040, 1129, 1130, 1203, 1226, 1053, 1077, 1079, 3032),
    "not sent": (2006, 2014, 2027, 2055, 1927, 3169, 4031),
    "lost": (2013,),
    "refused": (1290, 1792, 1836, 1874),
    "missing": (1146, 1049, 1054, 1305),
    "statement": (
        1205, 1213, 1020, 1317, 1969, 3024, 1064, 1062, 1048, 1451, 1452, 1044, 1045, 1142, 1227, 1, 9999,
    ),
}  # fmt: skip
CASES = [(number, found) for found, numbers in TABLE.items() for number in numbers]


@pytest.mark.parametrize(("number", "found"), CASES)
@pytest.mark.parametrize("name", ["OperationalError", "InternalError", "ProgrammingError"])
def test_the_number_decides_whatever_the_class(name: str, number: int, found: str) -> None:
    assert meaning(name, (number, "words")) == found


@pytest.mark.parametrize("number", [2013, 1290, 1064])
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


def test_only_what_is_said_of_connections_counts_against_a_node_that_is_being_opened() -> None:
    assert {"unreachable", "not sent", "lost"} == NO_CONNECTION
