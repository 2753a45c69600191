"""A server that refuses the session trackers is used without them, and never without the guard.

The kind: errors that answer the library's SET while it connects. The servers' catalogues have them for
unknown variables (1193), values (1231, 1232), scopes (1228, 1229, 1238), rights (1142, 1227), moments (1568,
1766) and syntax (1064); proxies use general numbers (1105, 1290) and numbers of their own. All of them leave
the connection open. Errors about the node itself, such as 1047 or 1053, are none of these. Two proxies refuse
nothing: one that does not offer the trackers, and one that drops them from the server's answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql.constants import CLIENT
from pymysql.err import MySQLError
from support.scripted_server import OFFERED, ScriptedServer, error, opening, result, row

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.cli.findings import find_faults
from peewee_replicas.cli.survey import survey

REFUSALS = (1064, 1105, 1142, 1193, 1227, 1228, 1229, 1231, 1232, 1238, 1290, 1568, 1766, 9001)
NODE = (1047, 1053, 1040, 1820, 3032)
TRACKERS = (
    "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci, SESSION",
    "SET NAMES utf8mb4, SESSION",
    "SET NAMES utf8, SESSION",  # peewee 3
    "SET SESSION session_",
)
GUARD = "SET SESSION TRANSACTION READ ONLY"


def refusing(number: int, *more: str) -> dict[str, Any]:
    return dict.fromkeys((*TRACKERS, *more), error(number))


@pytest.fixture
def connect(form: str) -> Iterator[Callable[..., Any]]:
    with opening(form) as connect:
        yield connect


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("options", [{}, {"init_command": "SET @a = 1"}], ids=["plain", "init_command"])
def test_the_connection_is_opened_without_trackers_and_with_the_guard(
    connect: Any, number: int, options: Any
) -> None:
    with ScriptedServer(refusing(number)) as server:
        conn = connect(server, guard=True, **options)
        assert server.statements[-1] == GUARD
        assert not conn.tracks
        assert str(number) in conn.untracked
        server.answers.clear()
        assert connect(server, guard=True).tracks


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("options", [{}, {"init_command": "SET @a = 1"}], ids=["plain", "init_command"])
def test_reports_that_are_dropped_on_the_way_are_noticed(connect: Any, options: Any) -> None:
    with ScriptedServer(reports=False) as server:
        conn = connect(server, **options)
        assert "sends none" in conn.untracked
        assert conn.tracks  # what comes nevertheless is read
    with ScriptedServer() as server:
        assert connect(server, **options).untracked == ""


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("number", NODE)
def test_an_error_of_the_node_is_raised(connect: Any, number: int) -> None:
    with ScriptedServer(refusing(number)) as server, pytest.raises(MySQLError) as raised:
        connect(server)
    assert raised.value.args[0] == number


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("number", [1766, 1227])
def test_a_refused_guard_is_raised(connect: Any, number: int) -> None:
    with ScriptedServer(refusing(number, GUARD)) as server, pytest.raises(MySQLError) as raised:
        connect(server, guard=True)
    assert raised.value.args[0] == number


@pytest.mark.parametrize(
    ("refused", "offered", "reports", "why"),
    [
        (refusing(1766), OFFERED, True, "1766"),
        # A proxy that does not pass the capability on refuses nothing.
        ({}, OFFERED & ~CLIENT.SESSION_TRACK, True, "does not offer session tracking"),
        ({}, OFFERED, False, "accepts the settings that turn reports on, and sends none"),
    ],
    ids=["refused", "not offered", "stripped"],
)
def test_it_is_logged_once_for_a_database(
    refused: dict[str, Any], offered: int, reports: bool, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {
        **refused,
        "SELECT @@GLOBAL.gtid_binlog_pos": result(row(b"0-1-1", b"1"), columns=2),
        "SELECT MASTER_GTID_WAIT": result(row(b"0", b"1/host/1", b"0-1-1"), columns=3),
        "SELECT": result(row(b"1")),
    }
    with (
        ScriptedServer(answers, offered=offered, reports=reports) as one,
        ScriptedServer(answers, offered=offered, reports=reports) as two,
    ):
        parameters = {key: value for key, value in one.parameters.items() if key != "database"}
        db = ReplicatedDatabase(
            "app", **parameters, replicas=[{"name": "r", "port": two.port}], probe_interval=None
        )
        for _ in range(2):
            db.execute_sql("UPDATE t SET a = 1")
            db.execute_sql("SELECT 1")
            db.close()
        trackers = [finding for finding in find_faults(survey(db, 20.0)) if finding.code == "trackers"]
    said = [record.getMessage() for record in caplog.records if "does not report" in record.getMessage()]
    assert len(said) == 1
    assert why in said[0]
    assert {finding.node for finding in trackers} == {"primary", "r"}
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert any("gtid_binlog_pos" in text for text in one.statements)
