"""No value of a statement, and no password, is in anything that the library tells people.

What it tells was listed by walking the source for ``raise``, ``logger.``, ``warnings``, ``__repr__``, the
events and ``stats()``, as `test_messages_hold_no_values.py` does. Here a marker stands in parameters,
in literals, in settings made while connecting, in messages that a procedure raises and in passwords, and each
kind of failure is provoked on a real server. What a server says to the program itself, as one of peewee's
errors, stays: there the test takes the words off that peewee alone would show, and looks at the rest.

peewee's own logger ``peewee`` shows statements with their parameters, as it does without this library.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pytest
from peewee import MySQLDatabase
from support.peewees import AS_NEWEST_CONNECTS

from peewee_replicas import (
    NoReplicaAvailable,
    OutcomeUnknown,
    PooledReplicatedDatabase,
    ReadOnlyViolation,
    ReplicatedDatabase,
)
from peewee_replicas.errors import TransactionEscapeError
from peewee_replicas.testing import LocalCluster

MARKER = "hunter2"


def shown_id(value: object) -> str:
    return str(value).replace(MARKER, "MARKER")[:40]


class Told:
    """All that a database's users are told."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.texts: list[str] = []
        self.errors: list[str | None] = []
        self.raised: list[BaseException] = []

    def watch(self, database: Any) -> Any:
        def hear(event: Any) -> None:
            self.errors.append(event.error)
            # The statement's text is the program's own; all else is the library's.
            self.texts += [repr(event), repr(event._replace(sql="")), *map(str, event._replace(sql=""))]

        def hear_and_fail(event: Any) -> None:
            hear(event)
            raise ValueError("a hook that fails, which is logged")

        database.route_hooks.append(hear_and_fail)
        database.node_hooks.append(lambda event: self.texts.append(repr(event)))
        return database

    def raises(self, work: Callable[[], Any]) -> BaseException:
        """Do what fails; returns the error."""
        try:
            result = work()
            getattr(result, "fetchall", list)()
        except Exception as exc:
            self.raised.append(exc)
            return exc
        raise AssertionError("it was to fail")

    def read(self, database: Any) -> None:
        """Take in what can be asked of a database."""
        self.texts += [repr(database), repr(database.stats()), repr(database.replicas)]
        self.texts += [
            str(replica.cause if hasattr(replica, "cause") else "") for replica in database.replicas
        ]

    def everything(self) -> str:
        records = [record for record in self._caplog.get_records("call") if record.name != "peewee"]
        assert records or not self.errors  # of each event, a hook has failed
        formatter = logging.Formatter()
        return "\n".join([*self.texts, *(formatter.format(record) for record in records)])


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = Told(caplog)
        yield found
    assert MARKER not in found.everything()
    assert not [each for each in warned if MARKER in str(each.message)]


@pytest.fixture
def tables(cluster: LocalCluster) -> LocalCluster:
    for statement in (
        "DROP TABLE IF EXISTS app.secret",
        "CREATE TABLE app.secret (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20) UNIQUE, n INT, d DATE)",
        f"INSERT INTO app.secret (name, n) VALUES ('{MARKER}', 1)",
        "DROP PROCEDURE IF EXISTS app.raises",
        "CREATE PROCEDURE app.raises(what VARCHAR(50)) BEGIN "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = what; END",
        "DROP FUNCTION IF EXISTS app.writes",
        "CREATE FUNCTION app.writes(what VARCHAR(50)) RETURNS INT DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN INSERT INTO app.secret (name) VALUES (what); RETURN 1; END",
    ):
        cluster.primary.execute(statement)
    cluster.sync()
    return cluster


STATEMENTS: list[tuple[str, Any]] = [
    ("INSERT INTO secret (name) VALUES (%s)", (MARKER,)),
    (f"INSERT INTO secret (name) VALUES ('{MARKER}')", None),
    ("INSERT INTO secret (name, n) VALUES ('x', %s)", (MARKER,)),
    ("INSERT INTO secret (name, d) VALUES ('x', %s)", (MARKER,)),
    ("INSERT INTO secret (name) VALUES (%s)", (MARKER * 10,)),
    ("INSERT INTO secret (nam) VALUES (%s)", (MARKER,)),
    ("INSRT INTO secret (name) VALUES (%s)", (MARKER,)),
    ("SELECT * FROM secret WHERE name = %s AND AND", (MARKER,)),
    ("SELECT missing FROM secret WHERE name = %s", (MARKER,)),
    (f"SELECT EXTRACTVALUE('<a/>', CONCAT('~', '{MARKER}'))", None),
    ("SELECT CAST(%s AS nothing)", (MARKER,)),
    ("SELECT nowhere(%s)", (MARKER,)),
    ("SELECT n FROM missing_table WHERE name = %s", (MARKER,)),
    ("SELECT 1 WHERE '1' = %s /* ", (MARKER,)),
    ("CALL raises(%s)", (MARKER,)),
    (f"CALL raises('{MARKER}')", None),
    ("CALL nothing(%s)", (MARKER,)),
    (f"SET @x = '{MARKER}' +", None),
    (f"SET SESSION sql_mode = '{MARKER}'", None),
    (f"SET SESSION wait_timeout = '{MARKER}'", None),
    ("SELECT %d", (MARKER,)),
    ("SELECT %s, %s", (MARKER,)),
]


@pytest.mark.parametrize("form", [ReplicatedDatabase, PooledReplicatedDatabase])
@pytest.mark.parametrize(("sql", "params"), STATEMENTS, ids=shown_id)
def test_a_statement_that_fails(tables: LocalCluster, told: Told, form: Any, sql: str, params: Any) -> None:
    # Values that do not fit are an error to a strict server only.
    database = told.watch(tables.database(form, probe_interval=None, **AS_NEWEST_CONNECTS))
    parameters = {**tables.parameters(tables.primary), **AS_NEWEST_CONNECTS}
    plain = MySQLDatabase(parameters.pop("database"), **parameters)
    alone = Told.raises(told, lambda: plain.execute_sql(sql, params))
    ours = told.raises(lambda: database.execute_sql(sql, params))
    assert type(ours) is type(alone)
    assert ours.args[0] == alone.args[0]
    added = str(ours.args[-1]).replace(str(alone.args[-1]), "")
    assert MARKER not in added
    assert told.errors[-1] is not None
    assert MARKER not in told.errors[-1]
    if isinstance(ours.args[0], int):
        assert str(ours.args[0]) in told.errors[-1]
    told.read(database)
    plain.close()
    database.close()


REFUSED = [
    ("INSERT INTO secret (name) VALUES ('hunter2')", None),
    ("CALL raises('hunter2')", None),
    ("UPDATE secret SET name = %s", (MARKER,)),
    ("SELECT * FROM secret WHERE name = 'hunter2' FOR UPDATE", None),
    ("SELECT writes('hunter2')", None),
    ("SET @x = 'hunter2'", None),
    ("BEGIN /* hunter2 */", None),
]


@pytest.mark.parametrize(("sql", "params"), REFUSED)
def test_what_readonly_refuses(tables: LocalCluster, told: Told, sql: str, params: Any) -> None:
    database = told.watch(tables.database(ReplicatedDatabase, probe_interval=None))
    with database.readonly():
        refusal = told.raises(lambda: database.execute_sql(sql, params))
        assert isinstance(refusal, ReadOnlyViolation)
        assert MARKER not in str(refusal)
        if "writes" not in sql:
            refusal = told.raises(lambda: database.explain_route(sql))
            assert MARKER not in "".join(
                traceback.format_exception(None, refusal, refusal.__traceback__)[-1:]
            )
    database.close()


def test_what_a_connection_carries(tables: LocalCluster, told: Told) -> None:
    database = told.watch(tables.database(ReplicatedDatabase, probe_interval=None))
    database.execute_sql(f"SET @secret = '{MARKER}'")
    told.texts.append(repr(database.explain_route("SELECT 1")))
    database.execute_sql(f"SELECT GET_LOCK('{MARKER}', 0)").fetchall()
    told.texts.append(repr(database.explain_route("SELECT 1")))
    with database.cursor() as cursor:
        cursor.execute(f"SET @another = '{MARKER}'")
    told.texts.append(repr(database.explain_route(f"SELECT name FROM secret WHERE name = '{MARKER}'")))
    database.execute_sql("SELECT 1").fetchall()
    told.read(database)
    database.close()


def test_a_read_that_is_rerun_on_the_primary(tables: LocalCluster, told: Told) -> None:
    database = told.watch(tables.database(ReplicatedDatabase, probe_interval=None, pure_functions=["writes"]))
    database.execute_sql("SELECT writes('hunter2-2')").fetchall()  # refused by the replica, logged once
    told.read(database)
    database.close()


@pytest.mark.parametrize("params", [None, (MARKER,)])
def test_a_connection_that_is_lost_while_a_statement_runs(
    tables: LocalCluster, told: Told, params: Any
) -> None:
    database = told.watch(tables.database(ReplicatedDatabase, probe_interval=None, read_timeout=0.3))
    value = "%s" if params else f"'{MARKER}'"
    for sql in (
        f"INSERT INTO secret (name, n) SELECT CONCAT({value}, '-3'), SLEEP(1)",
        f"SELECT SLEEP(1), {value}",
        f"CALL raises(CONCAT({value}, SLEEP(1)))",
    ):
        lost = told.raises(lambda sql=sql: database.execute_sql(sql, params))  # type: ignore[misc]
        assert isinstance(lost, peewee.OperationalError)
        assert MARKER not in str(lost)
    assert any(isinstance(exc, OutcomeUnknown) for exc in told.raised)
    told.read(database)
    database.close()


def test_a_transaction_that_is_escaped(tables: LocalCluster, told: Told) -> None:
    for action in ("warn", "error"):
        database = told.watch(
            tables.database(ReplicatedDatabase, probe_interval=None, on_transaction_escape=action)
        )
        with database.atomic():
            context = contextvars.copy_context()

            def escape(database: Any = database, action: str = action) -> None:
                work = lambda: database.execute_sql(f"SELECT '{MARKER}'").fetchall()  # noqa: E731
                if action == "error":
                    assert isinstance(told.raises(work), TransactionEscapeError)
                    assert MARKER not in str(told.raised[-1])
                else:
                    work()
                database.close()

            thread = threading.Thread(target=context.run, args=(escape,))
            thread.start()
            thread.join()
        database.close()


def test_connecting_that_fails(tables: LocalCluster, told: Told) -> None:
    """A wrong password, and settings of the user's that the server quotes, also by the prober."""
    for wrong in (
        {"password": MARKER},
        {"init_command": f"SET @x = '{MARKER}' nonsense"},
        {"init_command": f"CALL app.raises('{MARKER}')"},
        {"sql_mode": MARKER},
        {"database": "nowhere"},
    ):
        database = told.watch(
            tables.database(ReplicatedDatabase, probe_interval=0.1, fallback="error", **wrong)
        )
        failed = told.raises(lambda database=database: database.execute_sql("SELECT 1"))  # type: ignore[misc]
        assert isinstance(failed, peewee.PeeweeException)
        if isinstance(failed, NoReplicaAvailable):
            assert MARKER not in str(failed)
        told.raises(lambda database=database: database.execute_sql("DO 1"))  # type: ignore[misc]
        prober = database._parts.cluster.prober
        prober.wait_for_first_look(5)
        told.read(database)
        prober.stop()
        database.close()


def test_replicas_that_have_no_connection_for_a_read(tables: LocalCluster, told: Told) -> None:
    database = told.watch(
        tables.database(
            ReplicatedDatabase,
            probe_interval=None,
            fallback="error",
            replicas=[{"host": "127.0.0.1", "port": 1, "password": MARKER, "name": "nobody"}],
        )
    )
    refused = told.raises(lambda: database.execute_sql("SELECT %s", (MARKER,)))
    assert isinstance(refused, NoReplicaAvailable)
    assert MARKER not in "".join(traceback.format_exception(None, refused, None))
    database.replicas[0].eject("by hand")
    database.replicas[0].restore()
    told.read(database)
    database.close()
