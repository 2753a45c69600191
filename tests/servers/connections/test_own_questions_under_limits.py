"""What the library asks and sets for itself under limits that the user has put on the sessions.

The members are the rows of `docs/questions.md`; those that reads, writes and the prober meet are driven
under each of `LIMITS`. That list has session variables of MariaDB 10.11 and MySQL 9.7 that can end a
statement, cut its result, or change how its text is read or its values are written. Each was set in
``init_command``, and the statements of the dialects were run and compared with a plain session. These changed
an answer:

- ``sql_select_limit`` cuts each SELECT and SHOW that has no LIMIT of its own;
- ``max_join_size`` with ``sql_big_selects = 0`` refuses SHOW VARIABLES and information_schema (1104);
- ``max_statement_time`` (MariaDB, every statement) and ``max_execution_time`` (MySQL, SELECT) end waits
  (1969, 3024);
- ``character_set_results = binary``, ``use_unicode = False`` and ``conv`` make bytes or text of values;
- with ``character_set_connection = utf16`` MariaDB cannot read a position (1941), and MySQL reads an empty
  one, which every node has reached.

These did not, and are driven all the same: SQL modes (ANSI_QUOTES, NO_BACKSLASH_ESCAPES, PIPES_AS_CONCAT,
EMPTY_STRING_IS_NULL and others), ``lock_wait_timeout``, ``sql_safe_updates``, ``autocommit = 0``,
trackers switched off, cursor classes, ``read_timeout`` and ``write_timeout``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import peewee
import pytest
from pymysql.cursors import DictCursor, SSCursor
from support.clusters.lagging import LONG, bound, frozen, waits_asked_for
from support.waiting import until

TRACKERS = ("session_track_state_change = OFF", "session_track_transaction_info = 'OFF'")
MODES = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE,HIGH_NOT_PRECEDENCE"


class Limit(NamedTuple):
    """What a user sets on the sessions, and how.

    Attributes:
        mariadb, mysql: the assignments of an ``init_command``, or ``""``.
        options: arguments for the driver.
    """

    mariadb: str = ""
    mysql: str = ""
    options: Mapping[str, Any] = MappingProxyType({})

    def arguments(self, server: str) -> dict[str, Any]:
        assignments = self.mysql if server == "mysql" else self.mariadb
        return {**self.options, **({"init_command": f"SET {assignments}"} if assignments else {})}


def both(assignments: str, **options: Any) -> Limit:
    return Limit(assignments, assignments, options)


LIMITS = {
    "time": Limit("max_statement_time = 0.2", "max_execution_time = 200"),
    "no rows": both("sql_select_limit = 0"),
    "one row": both("sql_select_limit = 1"),
    "join size": both("max_join_size = 1, sql_big_selects = 0"),
    "modes": Limit(f"sql_mode = 'EMPTY_STRING_IS_NULL,{MODES}'", f"sql_mode = 'ANSI,{MODES}'"),
    "session": Limit(
        ", ".join(
            ("session_track_system_variables = ''", *TRACKERS, "autocommit = 0, lock_wait_timeout = 1")
        ),
        ", ".join(("session_track_gtids = OFF", *TRACKERS, "autocommit = 0, lock_wait_timeout = 1")),
    ),
    "timeouts": both("sql_safe_updates = 1", read_timeout=1, write_timeout=1),
    "bytes": both("character_set_results = binary"),
    "no text": both("character_set_connection = utf16", use_unicode=False, cursorclass=SSCursor),
    "converters": both("", conv={}, cursorclass=DictCursor),
}


def first_value(db: Any) -> int:
    row = db.execute_sql("SELECT n FROM slot WHERE name = 'a' LIMIT 1").fetchall()[0]
    return int(row["n"] if isinstance(row, dict) else row[0])


@pytest.fixture(params=LIMITS)
def limits(request: pytest.FixtureRequest, server: str) -> dict[str, Any]:
    return LIMITS[request.param].arguments(server)


def test_no_question_fails_a_statement(pair: Any, limits: dict[str, Any]) -> None:
    with bound(pair, **limits, catch_up_timeout=0.3) as db:
        assert first_value(db) == 1  # compares the settings
        db.execute_sql("UPDATE slot SET n = 2 WHERE name = 'a'")
        assert first_value(db) == 2  # a wait
        with pytest.raises(peewee.IntegrityError):
            db.execute_sql("INSERT INTO slot (name, n) VALUES ('a', 2)")
        assert first_value(db) == 2  # a report, and the primary's position
        assert db.bookmark()
        with db.readonly(snapshot=True):
            assert first_value(db) == 2
        with db.atomic():
            db.execute_sql("UPDATE slot SET n = 3 WHERE name = 'a'")
        with db.readonly(snapshot=True):
            assert first_value(db) == 3  # a wait before a snapshot
        db.execute_sql("/* " + "x" * (1 << 20) + " */ UPDATE slot SET n = 4 WHERE name = 'a'")
        assert first_value(db) == 4
    with bound(pair, **limits, consistency="strong") as db:
        assert first_value(db) == 4


@pytest.mark.parametrize("name", ["one row", "join size", "modes", "session", "bytes", "converters"])
def test_the_answer_to_a_wait_is_understood(pair: Any, name: str) -> None:
    limits = LIMITS[name].arguments(pair.server)
    with bound(pair, **limits, catch_up_timeout=LONG, fallback="error") as db:
        db.execute_sql("UPDATE slot SET n = 2 WHERE name = 'a'")
        assert first_value(db) == 2
        db.execute_sql("UPDATE slot SET n = 3 WHERE name = 'a'")
        with db.readonly(snapshot=True):
            assert first_value(db) == 3


@pytest.mark.parametrize("charset", ["utf16", "utf16le", "utf32", "ucs2", "sjis", "gbk", "latin1", "binary"])
def test_no_character_set_makes_a_late_replica_look_caught_up(lagging: Any, charset: str) -> None:
    """From a text in a wide character set MySQL reads an empty set of GTIDs, which every node has reached."""
    command = f"SET character_set_connection = {charset}"
    with bound(lagging, init_command=command, catch_up_timeout=0.1) as db:
        assert first_value(db) == 1
        db.execute_sql("UPDATE slot SET n = 2 WHERE name = 'a'")
        assert first_value(db) == 2
        with db.readonly(snapshot=True):
            assert first_value(db) == 2
    with bound(lagging, init_command=command, catch_up_timeout=0.1, consistency="strong") as db:
        assert first_value(db) == 2


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_wait_that_a_limit_ends_is_charged(own_three: Any, snapshot: bool) -> None:
    """With two late replicas, the second is not waited for beyond what the first has left."""
    limits = LIMITS["time"].arguments(own_three.server)
    with (
        bound(own_three, **limits, catch_up_timeout=0.3) as db,
        frozen(own_three),
        waits_asked_for() as waits,
    ):
        db.execute_sql("UPDATE slot SET n = 5 WHERE name = 'a'")
        with db.readonly(snapshot=snapshot):
            assert first_value(db) == 5
    assert len(waits) == 2
    assert waits[1] <= waits[0] - 0.15  # the limit is 0.2


def test_the_prober_has_no_limits(pair: Any, limits: dict[str, Any]) -> None:
    with bound(pair, **limits, probe_interval=0.1) as db:
        assert first_value(db) == 1
        until(lambda: db.replicas[0].lag is not None)
