"""What a subclass's own `connect()` sets comes back with the next connection, and nothing else does.

The members of the kind are what a session can be given there (`SET` of a variable, of a user variable and of
the character set, `USE`), each sent by a statement or by a raw cursor; the ways to lose the
connection (`KILL`, `wait_timeout`, a restart, in the middle of a read, in a transaction, by age, by
`set_primary()`); and the two classes, plain and pooled. The asyncio form has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pymysql
import pytest
from peewee import InterfaceError, MySQLDatabase, OperationalError
from playhouse.shortcuts import ReconnectMixin
from support.databases.lost import item_names, lose_primary
from support.databases.models import Item
from support.databases.retrying import CLASSES, mixed
from support.forks import in_child
from support.proxies.saboteur import Saboteur
from support.waiting import until

from peewee_replicas import OutcomeUnknown, PooledReplicatedDatabase, ReadOnlyViolation, ReplicatedDatabase

ZONE = "SET SESSION time_zone = '+05:00'"
HOUR = "SELECT HOUR(FROM_UNIXTIME(0))"
WRITE = "INSERT INTO item (name, n) VALUES ('written', 0)"

SETS = {
    ZONE: (HOUR, 5),
    "SET NAMES latin1": ("SELECT @@character_set_client", "latin1"),
    "SET SESSION sql_mode = 'ANSI_QUOTES'": ("SELECT @@sql_mode", "ANSI_QUOTES"),
    "SET @who = 'me'": ("SELECT @who", "me"),
    "SET foreign_key_checks = 0": ("SELECT @@foreign_key_checks", 0),
    "USE information_schema": ("SELECT DATABASE()", "information_schema"),
}
"""What is sent, and a question with the answer that shows it."""


class Setting:
    """Sends something whenever it connects, as published programs do."""

    sends: tuple[str, ...] = (ZONE,)
    connects = 0

    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        type(self).connects += 1
        result = super().connect(*args, **kwargs)  # type: ignore[misc]  # a mixin
        for text in self.sends:
            self.send(text)
        return result

    def send(self: Any, text: str) -> None:
        self.execute_sql(text)


class SettingByCursor(Setting):
    def send(self: Any, text: str) -> None:
        self.cursor().execute(text)


class SettingMore:
    """Stands before a class that sets something, and sets another thing itself."""

    between: Any = staticmethod(lambda: None)

    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().connect(*args, **kwargs)  # type: ignore[misc]  # a mixin
        self.between()
        self.execute_sql("SET @who = 'me'")
        return result


class Watched:
    """Changes nothing."""


Made = Callable[..., Any]


@pytest.fixture
def made(db: Any, cluster: Any) -> Iterator[Made]:
    """Makes a database of a subclass, to which `Item` is bound."""
    databases = []

    def make(
        mixin: Any, cls: Any = ReplicatedDatabase, sends: tuple[str, ...] = (ZONE,), **options: Any
    ) -> Any:
        kind = type(mixin.__name__, (mixin, cls), {"sends": sends, "connects": 0})
        database = cluster.database(kind, **{"consistency": "eventual", "probe_interval": None, **options})
        databases.append(database)
        database.bind([Item])
        return database

    yield make
    db.bind([Item])
    for database in databases:
        database.close()
        if isinstance(database, PooledReplicatedDatabase):
            database.close_all()


def value(database: Any, question: str = HOUR) -> Any:
    return database.execute_sql(question).fetchone()[0]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("mixin", [Setting, SettingByCursor])
def test_what_connect_sets_is_there_after_a_loss(made: Made, cluster: Any, mixin: Any, cls: Any) -> None:
    write = WRITE.replace("item", f"{cluster.database_name}.item")
    for text, (question, answer) in SETS.items():
        database = made(mixin, cls, (text,))
        database.connect()
        for _ in range(2):
            assert database.execute_sql(write).rowcount == 1
            for _ in range(2):
                lose_primary(cluster, database)
                assert value(database, question) == answer, text
                lose_primary(cluster, database)
                assert database.execute_sql(write).rowcount == 1
                assert value(database, question) == answer, text
            database.close()  # connects by itself next
    assert item_names(cluster) == ["written"] * 6 * len(SETS)


def test_a_program_goes_on_as_it_does_with_peewees_reconnect_mixin(made: Made, cluster: Any) -> None:
    parameters = cluster.parameters(cluster.primary)
    peewees = type("Peewees", (ReconnectMixin, Setting, MySQLDatabase), {})(
        parameters.pop("database"), **parameters
    )
    seen = []
    for database in (peewees, made(Setting)):
        found = []
        database.connect()
        for _ in range(2):
            found.append(value(database))
            lose_primary(cluster, None if database is peewees else database)
            found.append(value(database))
            lose_primary(cluster, None if database is peewees else database)
            with database.atomic():
                found.append(database.execute_sql(WRITE).rowcount)
                found.append(value(database))
        database.close()
        seen.append(found)
    assert seen[0] == seen[1] == [5, 5, 1, 5] * 2


def test_every_class_that_connects_has_set_its_part(made: Made, cluster: Any) -> None:
    database = made(SettingMore, mixed(Setting, ReplicatedDatabase))
    for _ in range(3):
        assert (value(database), value(database, "SELECT @who")) == (5, "me")
        lose_primary(cluster, database)


def test_no_class_has_set_its_part_without_the_other(made: Made, cluster: Any) -> None:
    database = made(SettingMore, mixed(Setting, ReplicatedDatabase))
    database.execute_sql("DO 0")
    losses = [cluster]
    type(database).between = lambda self: losses and lose_primary(losses.pop(), self)
    lose_primary(cluster, database)
    with pytest.raises((OperationalError, InterfaceError)):
        value(database)
    assert not losses
    assert (value(database), value(database, "SELECT @who")) == (5, "me")


def test_it_is_there_in_a_readonly_block_that_lost_it(made: Made, cluster: Any) -> None:
    database = made(Setting)
    database.connect()
    with database.readonly():
        assert value(database) == 5
        lose_primary(cluster, database)
        assert value(database) == 5
        with pytest.raises(ReadOnlyViolation):
            database.execute_sql(WRITE)
    assert item_names(cluster) == []
    database.close()
    with database.readonly(), pytest.raises(ReadOnlyViolation):
        value(database)  # connects inside the block, which the documentation says


def test_it_is_there_in_a_forked_child(made: Made, cluster: Any) -> None:
    database = made(Setting)
    database.execute_sql(WRITE)

    def read() -> list[int]:
        found = [value(database) for _ in range(2)]
        database.close()
        return found

    assert in_child(read) == [5, 5]
    assert value(database) == 5


@pytest.mark.parametrize("cls", CLASSES)
def test_it_is_there_after_a_transaction_that_was_lost(made: Made, cluster: Any, cls: Any) -> None:
    database = made(Setting, cls)
    for _ in range(2):
        with pytest.raises(OperationalError), database.atomic():
            database.execute_sql(WRITE)
            lose_primary(cluster, database)
            database.execute_sql(WRITE)
        assert value(database) == 5
        with pytest.raises(OperationalError, match="COMMIT"), database.atomic():
            assert value(database) == 5
            lose_primary(cluster, database)
            with pytest.raises(OperationalError):
                value(database)
            with pytest.raises((OperationalError, InterfaceError)):
                database.execute_sql(WRITE)
        database.execute_sql(WRITE)
    assert item_names(cluster) == ["written"] * 2


@pytest.mark.parametrize("cls", CLASSES)
def test_it_is_there_after_wait_timeout(made: Made, cluster: Any, cls: Any) -> None:
    database = made(Setting, cls, (ZONE, "SET SESSION wait_timeout = 1"))
    for _ in range(2):
        database.execute_sql(WRITE)
        until(database._state.conn.dropped)
        assert value(database) == 5
        until(database._state.conn.dropped)
        with database.atomic():
            database.execute_sql(WRITE)
            assert value(database) == 5
    assert item_names(cluster) == ["written"] * 4


@pytest.mark.parametrize("cls", CLASSES)
def test_a_read_that_was_lost_is_repeated_with_it_and_no_write_is(
    made: Made, db: Any, cluster: Any, cls: Any
) -> None:
    with Saboteur(cluster.primary.port) as saboteur:
        database = made(Setting, cls, port=saboteur.port, ssl_disabled=True)
        for when in ("before", "after"):
            saboteur.cut("HOUR", when)
            assert value(database) == 5
        for when in ("before", "after"):
            saboteur.cut("HOUR", when)
        with pytest.raises(OperationalError) as lost_twice:
            value(database)
        assert "close()" not in str(lost_twice.value)  # which is not needed here
        saboteur.cut("INSERT", "after")
        with pytest.raises(OutcomeUnknown):
            database.execute_sql(WRITE)
        assert value(database) == 5
        saboteur.cut("INSERT", "before")
        with pytest.raises(OutcomeUnknown):
            database.execute_sql(WRITE)
        assert database.execute_sql(WRITE).rowcount == 1
        saboteur.cut("COMMIT", "after")
        with pytest.raises(OutcomeUnknown), database.atomic():
            database.execute_sql(WRITE)
        assert value(database) == 5
        assert saboteur.spoiled == 7
        assert item_names(cluster) == ["written"] * 3
        database.close()


def test_it_is_there_on_connections_that_replace_old_ones(made: Made, cluster: Any) -> None:
    database = made(Setting, max_connection_age=1e-6)
    seen = set()
    for _ in range(3):
        database.execute_sql("UPDATE item SET n = n + 1")
        seen.add(database._state.conn.thread_id())
        assert value(database) == 5
    assert len(seen) == 3


@pytest.mark.parametrize("cls", CLASSES)
def test_no_read_goes_to_a_replica_without_it_while_the_primary_is_down(own_pair: Any, cls: Any) -> None:
    database = own_pair.database(mixed(Setting, cls), probe_interval=None, connect_timeout=5)
    own_pair.primary.kill()
    for _ in range(3):
        with pytest.raises(OperationalError):
            value(database)
    own_pair.primary.start()
    assert value(database) == 5
    own_pair.primary.kill()
    with database.connection_context():
        for _ in range(3):
            with pytest.raises(OperationalError):
                value(database)
        own_pair.primary.start()
        assert [value(database) for _ in range(3)] == [5] * 3
    database.close()


def test_it_is_there_on_the_new_primary(own_pair: Any) -> None:
    """Either node takes writes, as far as the servers care."""
    database = own_pair.database(type("Kind", (Setting, ReplicatedDatabase), {}), probe_interval=None)
    replica = own_pair.replicas[0]
    database.execute_sql("DO 0")
    database.set_primary(replica.name)
    with database.primary():
        assert value(database, "SELECT @@port") == replica.port
        assert value(database) == 5
    database.close()


@pytest.mark.parametrize("cls", CLASSES)
def test_what_it_sets_for_the_next_transaction_is_there_for_it_on_each_connection(
    made: Made, cluster: Any, cls: Any
) -> None:
    names = "SELECT name FROM item"
    database = made(Setting, cls, ("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",))
    Item.create(name="committed", n=0)
    database.close()
    other = pymysql.connect(**cluster.parameters(cluster.primary))

    def lose() -> None:
        cluster.primary.execute(f"KILL {database._state.conn.thread_id()}")  # `other` goes on
        until(database._state.conn.dropped)

    try:
        other.begin()
        other.cursor().execute("UPDATE item SET name = 'not yet'")
        for _ in range(2):
            assert value(database, names) == "not yet"
            assert database.explain_route(names).role == "replica"  # the settings have been used up
            assert value(database.on_primary, names) == "committed"
            lose()
            assert value(database.on_primary, names) == "not yet"
            database.close()
            database.connect()
            lose()
    finally:
        other.close()


def test_settings_of_a_transaction_that_are_used_up_leave_what_it_has_set(made: Made) -> None:
    database = made(Setting)
    assert value(database) == 5
    database.execute_sql("SET TRANSACTION READ WRITE")
    database.execute_sql(WRITE)
    assert value(database) == 5


LATER = [
    ZONE, "SET @mine = 5", "SELECT @mine := 5", "USE `app`", "SET foreign_key_checks = 0",
    "SET TRANSACTION READ WRITE", "CREATE TEMPORARY TABLE mine (a INT)", "SELECT GET_LOCK('mine', 0)",
    "PREPARE p FROM 'SELECT 1'",
]  # fmt: skip


@pytest.mark.parametrize("by_cursor", [False, True])
def test_what_the_program_sets_later_does_not_come_back_unnoticed(
    made: Made, cluster: Any, by_cursor: bool
) -> None:
    database = made(Setting, sends=(ZONE, "SET @mine = 1"))
    for text in LATER:
        assert value(database) == 5
        (database.cursor().execute if by_cursor else database.execute_sql)(text)
        lose_primary(cluster, database)
        for sql in (HOUR, WRITE, HOUR, WRITE):
            with pytest.raises((OperationalError, InterfaceError), match=r"close\(\)"):
                database.execute_sql(sql)
        database.close()
    assert item_names(cluster) == []


@pytest.mark.parametrize("by_cursor", [False, True])
@pytest.mark.parametrize(
    "text", ["CREATE TEMPORARY TABLE IF NOT EXISTS mine (a INT)", "SELECT GET_LOCK('mine', 0)"]
)
def test_nor_do_a_tables_rows_or_a_lock_that_connect_took(
    made: Made, cluster: Any, text: str, by_cursor: bool
) -> None:
    mixin = SettingByCursor if by_cursor else Setting
    for sends in ((ZONE, text), (text, ZONE)):
        database = made(mixin, sends=sends)
        database.execute_sql(HOUR)
        lose_primary(cluster, database)
        for _ in range(2):
            with pytest.raises((OperationalError, InterfaceError), match=r"close\(\)"):
                database.execute_sql(HOUR)
        database.close()
        assert value(database) == 5
        database.close()


def test_a_lock_that_connect_released_is_none(made: Made, cluster: Any) -> None:
    database = made(Setting, sends=("SELECT GET_LOCK('mine', 1)", ZONE, "SELECT RELEASE_LOCK('mine')"))
    for _ in range(3):
        assert value(database) == 5
        lose_primary(cluster, database)


def test_a_lock_that_the_program_released_is_none_either(made: Made, cluster: Any) -> None:
    database = made(Setting)
    for _ in range(3):
        database.execute_sql("SELECT GET_LOCK('mine', 1)")
        database.execute_sql("SELECT RELEASE_LOCK('mine')")
        lose_primary(cluster, database)
        assert value(database) == 5


def test_connecting_again_does_not_make_the_programs_state_its_own(made: Made, cluster: Any) -> None:
    database = made(Setting)
    database.execute_sql("SET @mine = 5")
    database.connect(reuse_if_open=True)
    lose_primary(cluster, database)
    with pytest.raises((OperationalError, InterfaceError)):
        value(database)
    database.close()
    database.connect(reuse_if_open=True)
    database.connect(reuse_if_open=True)
    lose_primary(cluster, database)
    assert value(database) == 5


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("where", ["object", "class", "ours"])
def test_what_is_put_in_the_place_of_connect_is_called_as_peewee_calls_it(
    made: Made, cluster: Any, where: str, cls: Any
) -> None:
    parameters = cluster.parameters(cluster.primary)
    peewees = MySQLDatabase(parameters.pop("database"), **parameters)
    seen: list[list[str]] = []
    for database, base in ((peewees, MySQLDatabase), (made(Watched, cls), cls)):
        owner = {"object": database, "class": type(database), "ours": base}[where]
        genuine, calls = owner.connect, []

        def spy(*args: Any, genuine: Any = genuine, calls: Any = calls, **kwargs: Any) -> Any:
            calls.append("connect")
            return genuine(*args, **kwargs)

        with mock.patch.object(owner, "connect", spy):
            for work in (
                lambda database=database: database.execute_sql("SELECT 1"),
                lambda database=database: database.cursor(),
                lambda database=database: database.connection(),
                database.begin,
            ):
                work()
                database.rollback()
                seen.append(sorted(set(calls)))
                database.close()
                calls.clear()
    assert seen == [["connect"]] * 8


def test_what_an_object_got_later_sets_is_there_for_the_unit_and_after_a_loss(
    made: Made, cluster: Any
) -> None:
    database = made(Watched)
    genuine = database.connect

    def zoned(*args: Any, **kwargs: Any) -> Any:
        result = genuine(*args, **kwargs)
        database.execute_sql(ZONE)
        return result

    database.connect = zoned
    for _ in range(2):
        assert [value(database) for _ in range(2)] == [5] * 2
        database.execute_sql(WRITE)
        lose_primary(cluster, database)
    assert value(database) == 5
