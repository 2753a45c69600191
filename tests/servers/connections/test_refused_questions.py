"""A question of the library's own that a server refuses for good is asked and logged once, not "behind".

The questions whose refusal decides where a read goes are the wait on a replica (sent with a read, and alone
before a snapshot) and the primary's position; the list was made from the table in `docs/questions.md`. The
others are in `tests/unit/servers/test_refusals.py`, with every error number. Here each kind of error comes
from a real server, which is asked something that it does not know, or that the user may not see.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest
from peewee import IntegrityError
from support.clusters.lagging import Slot, bound, n_of, watched

from peewee_replicas.servers import mariadb, mysql

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("form")]

REFUSED = {
    1142: "SELECT COUNT(*), '', '' FROM mysql.user",
    1193: "SELECT @@no_such_variable, '', ''",
    1227: "SHOW BINARY LOGS",
    1305: "SELECT no_such_function(), '', ''",
}
NUMBERS = pytest.mark.parametrize("number", REFUSED)


@NUMBERS
def test_a_refused_wait_is_said_once_and_reads_go_to_the_primary(
    pair: Any, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for dialect in (mariadb, mysql):
        monkeypatch.setattr(dialect, "wait", lambda *_: REFUSED[number])
    with caplog.at_level(logging.WARNING, "peewee.replicas"), bound(pair) as db, watched(db) as events:
        assert n_of() == 1  # nothing was written, so nothing is asked
        Slot.update(n=2).execute()
        assert [n_of() for _ in range(4)] == [2] * 4
        reads = [event for event in events if event.kind == "read"]
        assert [event.role for event in reads] == ["replica"] + ["primary"] * 4
        assert all(str(number) in event.reason for event in reads[1:])
        with db.readonly(snapshot=True):
            assert n_of() == 2
        assert (db.stats()["waits"], db.stats()["behind"]) == (1, 0)
        (said,) = [record.getMessage() for record in caplog.records if str(number) in record.getMessage()]
        assert said.startswith("replica replica-1 (")
        assert db.replicas[0].state == "up"


@NUMBERS
def test_a_wait_alone_is_treated_the_same(
    pair: Any, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for dialect in (mariadb, mysql):
        monkeypatch.setattr(dialect, "wait", lambda *_: REFUSED[number])
    with caplog.at_level(logging.WARNING, "peewee.replicas"), bound(pair) as db:
        Slot.update(n=2).execute()
        for _ in range(2):
            with db.readonly(snapshot=True):
                assert n_of() == 2
        assert len([record for record in caplog.records if str(number) in record.getMessage()]) == 1


@NUMBERS
def test_a_primary_that_refuses_to_tell_its_position_is_asked_once(
    lagging: Any, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for dialect in (mariadb, mysql):
        monkeypatch.setattr(dialect, "NOW", REFUSED[number])
    with caplog.at_level(logging.WARNING, "peewee.replicas"), bound(lagging, sticky_seconds=60) as db:
        for _ in range(3):
            with suppress(IntegrityError):  # it reports no position
                Slot.create(name="a", n=2)
            with watched(db) as events:
                assert [n_of(), n_of()] == [1, 1]
            assert {event.role for event in events} == {"primary"}
            db.close()  # the next unit of work, which begins with what the process had written
        # Where there is no such variable there are no GTIDs, and time is what reads go by.
        assert db.stats()["asked"] == (3 if number == 1193 else 1)
        said = [record.getMessage() for record in caplog.records]
        assert len([text for text in said if "position" in text or "GTIDs" in text]) == 1
