"""What an error means, by its class and number."""

from __future__ import annotations

from typing import get_args

import pytest

from peewee_replicas.servers.error_meanings import (
    NO_CONNECTION,
    TABLE,
    Meaning,
    explained,
    meaning,
    remedy,
)


def test_each_number_has_one_row() -> None:
    numbers = [number for _, row in TABLE for number in row]
    assert len(numbers) == len(set(numbers))


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
