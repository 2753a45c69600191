"""Which errors of the library's own questions end the asking, and what each question does then.

The numbers are all of the servers' catalogues that say "you may not" or "I do not know this"; those that may
be gone the next time (limits, locks, KILL, lost connections, shutdown) are held to be no refusals. The
questions: the wait, the prober's wait, and its question for the state in a replication group. The primary's
position is in
`tests/unit/consistency/test_levels.py`.
"""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from pymysql.constants import ER
from pymysql.err import OperationalError

from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency.catch_up import CatchUp
from peewee_replicas.consistency.progress import Progress
from peewee_replicas.nodes.interview import Questionnaire, interview
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.servers.refusals import NO_GTIDS, NO_RIGHT, NOT_KNOWN, PAUSE_SECONDS, refusal

ROWS = [*NO_RIGHT, *NOT_KNOWN, *NO_GTIDS]
NUMBERS = [row.number for row in ROWS]
PASSING = [1040, 1047, 1053, 1205, 1213, 1317, 1927, 1941, 1969, 2006, 2013, 3024, 4031]
POSITION = MariaDBPosition.parse("0-1-5")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_refusal_names_cause_and_remedy(row: Any) -> None:
    assert getattr(ER, row.name, row.number) == row.number
    words = refusal(peewee.OperationalError(row.number, "a message that may quote values"))
    assert row.says in words
    assert str(row.number) in words
    assert words.endswith(("give the user this right there", "connect to it directly", "gtid_mode there"))
    assert "quote" not in words


@pytest.mark.parametrize("number", PASSING)
def test_what_may_be_gone_the_next_time_is_no_refusal(number: int) -> None:
    assert refusal(OperationalError(number, "")) == ""


@pytest.mark.parametrize("exc", [OSError(1193, ""), KeyError(), peewee.OperationalError("1193")])
def test_an_error_of_others_is_no_refusal(exc: Exception) -> None:
    assert refusal(exc) == ""


@pytest.mark.parametrize("number", NUMBERS)
def test_a_refused_wait_is_asked_again_after_a_pause_only(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(Clock, "monotonic", lambda: now.seconds)
    node: Any = SimpleNamespace(
        progress=Progress(), is_primary=False, role=None, name="r", title="replica r (h:1)"
    )
    conn: Any = SimpleNamespace(server_identity=None, dialect=mariadb, read_timeout=None)

    def ask(answer: Any) -> bool:
        read = CatchUp(POSITION, 1.0)
        if not read.query(node, conn):
            return False
        read.learn(node, conn, answer)
        return True

    error = OperationalError(number, "")
    assert ask(error)
    assert not ask(error)
    now.seconds += PAUSE_SECONDS
    assert ask(error)
    (record,) = caplog.records  # although it was refused twice
    assert "replica r (h:1) refuses" in record.getMessage()
    assert node.progress.stalled is None  # it is not known to be late
    now.seconds += PAUSE_SECONDS
    assert ask((0, "1/h/3306", "0-1-5"))  # the right was granted
    assert ask((0, "1/h/3306", "0-1-5"))
    assert node.progress.refusal == ""


@pytest.mark.parametrize("number", [*NUMBERS, *PASSING])
def test_the_prober_gives_up_waiting_where_it_is_refused(number: int) -> None:
    questionnaire = Questionnaire(None)
    questions = []
    for _ in range(2):
        talk = interview(mariadb, questionnaire, POSITION, 0.2)
        question = next(talk)
        if question != mariadb.PROBE:
            question = talk.send(OperationalError(number, ""))
            questions.append("wait")
        assert question == mariadb.PROBE
    assert questions == ["wait"] * (1 if number in NUMBERS else 2)


@pytest.mark.parametrize("number", [*NUMBERS, *PASSING])
def test_the_prober_gives_up_asking_for_the_group_where_it_is_refused(number: int) -> None:
    questionnaire = Questionnaire(None)
    asked = 0
    for _ in range(2):
        talk = interview(mysql, questionnaire, None, 0.2)
        assert next(talk) == mysql.PROBE
        question = talk.send([{"Variable_name": "group_replication_group_name", "Value": "g"}])
        with suppress(StopIteration):
            if question in mysql.CHANNELS:
                question = talk.send([])
            assert question == mysql.GROUP_MEMBER
            asked += 1
            talk.send(OperationalError(number, ""))
    assert asked == (1 if number in NUMBERS else 2)
