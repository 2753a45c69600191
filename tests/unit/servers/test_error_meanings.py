"""What an error means, by its class and number.

That no number was forgotten is held by `test_error_catalogue`, which goes through the servers' catalogues.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any, get_args

import peewee
import pymysql
import pytest

from peewee_replicas.servers.error_meanings import (
    NO_CONNECTION,
    NOT_OPENED,
    SystemFailure,
    explained,
    meaning,
    remedy,
)
from peewee_replicas.servers.error_table import NOT_LET_IN, TABLE, Meaning, Row, Server
from peewee_replicas.servers.wire.system_errors import system_failure


def test_each_number_has_one_meaning_on_each_server() -> None:
    assert set(TABLE) == set(get_args(Meaning))
    for server in get_args(Server):
        numbers = [row.number for rows in TABLE.values() for row in rows if row.server in (None, server)]
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("number", "server", "expected"),
    [
        (4031, "mysql", "killed"),
        (4031, "mariadb", "statement"),  # there it is about a trigger
        (4031, None, "killed"),
        (4002, "mariadb", "missing"),
        (4002, "mysql", "statement"),
        (1969, "mariadb", "statement"),
        (4089, "mysql", "statement"),
        (1146, "mysql", "missing"),
        (1146, "mariadb", "missing"),
        (1146, "sqlite", "missing"),
    ],
)
def test_a_number_that_two_servers_use_differently(number: int, server: str | None, expected: str) -> None:
    assert meaning("OperationalError", (number, ""), server=server) == expected


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


@pytest.mark.parametrize("name", ["OSError", "KeyError", "ProgrammingError"])
def test_the_numbers_of_the_system_count_only_where_the_driver_raises_them(name: str) -> None:
    assert meaning("InternalError", (126, "crashed")) == "unreadable"
    assert meaning(name, (126, "crashed")) == "statement"


@pytest.mark.parametrize("row", NOT_LET_IN, ids=lambda row: str(row.number))
def test_a_refused_user_is_configuration_only_while_connecting(row: Row) -> None:
    arguments = (row.number, "denied")
    assert meaning("OperationalError", arguments, connecting=True, server=row.server) == "misconfigured"
    assert meaning("OperationalError", arguments, server=row.server) in ("statement", "missing", "unreadable")


SHORTAGES = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOBUFS,
    errno.EADDRNOTAVAIL,
    errno.EADDRINUSE,
    errno.EAGAIN,
)
BEHIND = [
    *((OSError(number, "words"), "exhausted") for number in SHORTAGES),
    (socket.gaierror(socket.EAI_AGAIN, "words"), "misconfigured"),
    (socket.gaierror(socket.EAI_NONAME, "words"), "misconfigured"),
    (ssl.SSLError(1, "words"), "misconfigured"),
    (ssl.SSLCertVerificationError(1, "words"), "misconfigured"),
    (PermissionError(errno.EACCES, "words"), "misconfigured"),
    (PermissionError(errno.EPERM, "words"), "misconfigured"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "words"), "unreachable"),
    (OSError(errno.EHOSTUNREACH, "words"), "unreachable"),
    (OSError(errno.ENETUNREACH, "words"), "unreachable"),
    (FileNotFoundError(errno.ENOENT, "words"), "unreachable"),  # a socket's path
    (TimeoutError("words"), "unreachable"),
    (None, "unreachable"),
]


@pytest.mark.parametrize(("behind", "expected"), BEHIND, ids=lambda one: repr(one)[:40])
@pytest.mark.parametrize("kept_as", ["original_exception", "__cause__"])
def test_what_the_system_said_while_connecting_tells_whose_fault_it_is(
    behind: Any, expected: str, kept_as: str
) -> None:
    driver = pymysql.err.OperationalError(2003, "refused")
    setattr(driver, kept_as, behind)
    said = system_failure(peewee.OperationalError(driver, *driver.args))
    found = meaning("OperationalError", (2003, "refused"), connecting=True, cause=said)
    assert found == expected
    words = remedy(2003, found, said)
    assert words.startswith("no fault of the node: ") == (expected == "exhausted")
    assert words.startswith("configuration: ") == (expected == "misconfigured")
    assert ("host and port" in words) == (expected == "unreachable")


def test_each_fault_of_configuration_says_what_to_check() -> None:
    assert "certificate" in remedy(2003, "misconfigured", SystemFailure("tls", None))
    assert "host's name" in remedy(2003, "misconfigured", SystemFailure("name", None))
    assert "firewall" in remedy(2003, "misconfigured", SystemFailure("other", errno.EPERM))
    assert "ulimit" in remedy(2003, "exhausted", SystemFailure("other", errno.EMFILE))
    assert "port" in remedy(2003, "exhausted", SystemFailure("other", errno.EADDRNOTAVAIL))


def test_only_what_is_said_of_connections_counts_against_a_node_that_is_being_opened() -> None:
    others = {"refused", "missing", "unreadable", "statement"}
    assert set(get_args(Meaning)) - others == NO_CONNECTION


def test_a_schema_that_has_not_arrived_also_keeps_a_connection_from_being_opened() -> None:
    assert NO_CONNECTION | {"missing"} == NOT_OPENED
    assert meaning("OperationalError", (1049, "words"), connecting=True) in NOT_OPENED


@pytest.mark.parametrize("number", [2026, 1129, 1130, 1045])
def test_configuration_is_called_so_and_says_what_to_check(number: int) -> None:
    words = remedy(number, "misconfigured")
    assert words.startswith("configuration: ")
    assert "check" in words or "raise" in words


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
