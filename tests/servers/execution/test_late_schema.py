"""A read that a replica refuses only because DDL or GRANT has not arrived there is run on the primary.

The members of the kind are in `support.statements.late_schema`, which says how they were found. Each is done
on real servers: the replica applies nothing, the change is made on the primary, the replica raises the
number, and the read gets the primary's answer all the same. Numbers of the table that no case raises are
named below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters import own_cluster
from support.peewees import AS_NEWEST_CONNECTS
from support.statements.late_schema import CASES, Case

from peewee_replicas.servers.error_table import TABLE

LOGGER = "peewee.replicas"


class Prepared:
    """A cluster with all cases, whose replica has applied none of their changes."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.cluster = own_cluster(server, 1, options={"*": {"log_bin_trust_function_creators": True}})
        self.cases = {name: case for name, case in CASES.items() if server in case.number}
        self.numbers = {name: number for number, name in enumerate(self.cases)}

    def names(self, name: str) -> dict[str, str]:
        number = self.numbers[name]
        how = "FOR" if self.server == "mariadb" else "TO"
        return {"schema": f"late_{number}", "user": f"user_{number}", "for": how}

    def start(self) -> None:
        self.cluster.start()
        for name, case in self.cases.items():
            self._run(name, ("CREATE DATABASE {schema}",), "")
            self._run(name, case.before, "{schema}")
        self.cluster.sync()
        self.cluster.replicas[0].freeze()
        for name, case in self.cases.items():
            self._run(name, case.change, "{schema}")

    def _run(self, name: str, statements: tuple[str, ...], schema: str) -> None:
        names = self.names(name)
        with self._connect(self.cluster.primary, schema.format(**names), self.cluster.admin_user) as conn:
            for sql in statements:
                conn.cursor().execute(sql.format(**names))

    def _connect(self, node: Any, schema: str, user: str) -> Any:
        parameters = {**self.cluster.parameters(node), "user": user, "database": schema or None}
        if user != self.cluster.admin_user:
            parameters["password"] = "secret"
        return pymysql.connect(**parameters, autocommit=True)

    def user(self, name: str) -> str:
        return self.names(name)["user"] if self.cases[name].limited else self.cluster.admin_user

    def text(self, name: str) -> str:
        return self.cases[name].read.format(**self.names(name))

    def on(self, node: Any, name: str) -> Any:
        """What the read gives on one node."""
        with self._connect(node, self.names(name)["schema"], self.user(name)) as conn:
            cursor = conn.cursor()
            cursor.execute(self.text(name).replace("%%", "%"))
            return cursor.fetchall()

    @contextmanager
    def database(self, name: str, **options: Any) -> Iterator[Any]:
        password = "secret" if self.cases[name].limited else self.cluster.password
        given = {"database": self.names(name)["schema"], "user": self.user(name), "password": password}
        # Whether the replica refuses a read depends on the mode, and on the character set.
        given |= AS_NEWEST_CONNECTS
        database = self.cluster.database(consistency="eventual", probe_interval=None, **given, **options)
        database.events = []
        database.execute_sql("SELECT 1")  # which server it is decides what is a read
        database.route_hooks.append(database.events.append)
        try:
            yield database
        finally:
            database.close()


@pytest.fixture(scope="module")
def prepared_servers() -> Iterator[dict[str, Prepared]]:
    found: dict[str, Prepared] = {}
    yield found
    for prepared in found.values():
        prepared.cluster.stop()


@pytest.fixture
def prepared(server: str, prepared_servers: dict[str, Prepared]) -> Prepared:
    if server not in prepared_servers:
        prepared_servers[server] = one = Prepared(server)
        one.start()
    return prepared_servers[server]


@pytest.mark.parametrize("name", CASES)
def test_what_has_not_arrived_is_read_on_the_primary(
    prepared: Prepared, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case: Case = CASES[name]
    if prepared.server not in case.number:
        pytest.skip("this server has no such thing")
    number = case.number[prepared.server]
    with pytest.raises(pymysql.err.MySQLError) as raised:
        prepared.on(prepared.cluster.replicas[0], name)
    assert raised.value.args[0] == number
    expected = prepared.on(prepared.cluster.primary, name)

    with prepared.database(name) as database, caplog.at_level(logging.WARNING, LOGGER):
        for _ in range(3):
            with database.readonly():
                found = database.execute_sql(prepared.text(name)).fetchall()
            assert name == "right: of the server" or found == expected  # that one tells of the server itself
            assert (database.events[-1].node, database.events[-1].attempts) == ("primary", 2)
            assert (
                database.events[-1].reason == f"replica-1 could not run it ({number}), rerun on the primary"
            )
        assert database.replicas[0].state == "up"
        assert database.stats()["reruns"] == 3
    (record,) = [record for record in caplog.records if "differs from it" in record.message]
    assert record.message.startswith("replica replica-1 ")
    assert str(number) in record.message
    if name.startswith("type: "):
        assert "abc" not in record.message  # a value of the statement's, which some servers repeat


def test_every_number_of_what_may_be_missing_was_tried(prepared: Prepared) -> None:
    tried = {case.number.get(prepared.server) for case in CASES.values()}
    # FEDERATED, which has servers of that sort, is in neither package.
    untried = {1477}
    if prepared.server == "mysql":
        untried |= {1133, 1247}  # MariaDB's cases; the same words exist here
    else:
        untried |= {1055, 1140, 1111, 1525}  # MySQL's cases
    expected = {row.number for row in TABLE["missing"] if row.server in (None, prepared.server)}
    assert expected - tried == untried


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("SELECT n FROM never", 1146),
        ("SELECT never FROM z", 1054),
        ("SELECT 1 FROM z USE INDEX (never)", 1176),
        ("SELECT 1 FROM z WHERE MATCH (a) AGAINST ('a')", 1191),
        ("SELECT 1 UNION SELECT 1, 2", 1222),
    ],
)
def test_what_is_nowhere_is_looked_for_once_and_not_called_missing(
    prepared: Prepared, sql: str, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    with prepared.database("right: a table") as database, caplog.at_level(logging.WARNING, LOGGER):
        with pytest.raises(peewee.PeeweeException) as raised:
            database.execute_sql(sql)
        assert raised.value.args[0] == number or (number == 1146 and raised.value.args[0] == 1142)
        assert (database.events[-1].node, database.events[-1].attempts) == ("primary", 2)
    assert not [record for record in caplog.records if "differs from it" in record.message]


def test_each_thing_that_a_node_lacks_is_told_once(
    prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    with prepared.database("object: table") as database, caplog.at_level(logging.WARNING, LOGGER):
        for _ in range(2):
            for read in ("SELECT n FROM t", "SELECT id FROM t WHERE n = 1", "SELECT COUNT(*) FROM t AS x"):
                assert database.execute_sql(read).fetchall()
    (record,) = [record for record in caplog.records if "differs from it" in record.message]
    assert "a table or view (1146: Table '" in record.message
    assert "run twice" in record.message
