"""Set-ups in which one number, or the last one, does not say how far a server has come.

MariaDB with several GTID domains: a statement writes in two of them and reports the second, while a replica
applies the second and is held up in the first. MySQL with tagged GTIDs, whose numbers are counted apart, and
with transactions that replicas have of their own. Each has a negative control that believes the number.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pymysql
from support.clusters import as_in_another_process
from support.guarantees.actors import Actor
from support.guarantees.checker import Write
from support.guarantees.faults import Faults
from support.guarantees.workload import REGISTERS

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.positions import MySQLPosition
from peewee_replicas.servers import mysql

Operations = tuple[list[Callable[[], None]], list[float]]

LAST_POSITION = "control: last position"
NO_TAGS = "control: tags ignored"
HIGHEST = "control: highest number"
SETUP_CONTROLS = (LAST_POSITION, NO_TAGS, HIGHEST)

_TAG = re.compile(r":[a-z_]\w*(?=:)")
_BUMP = "version = LAST_INSERT_ID(version + 1)"


class DomainActor(Actor):
    """A session that writes in two GTID domains with one statement."""

    def both(self) -> None:
        """One more version of a register in the first domain, then of one in the second."""
        near = self.bump()
        far = Write(("far", self.chance.randrange(REGISTERS)), None, self.shared.token())
        with self.operation("CALL in two domains", near, far) as note:
            row = self.send(
                "CALL both_domains(%s, %s, %s, %s)", near.key[1], near.token, far.key[1], far.token
            ).fetchone()
            note.writes = (near._replace(version=row[0]), far._replace(version=row[1]))
        # The procedure has set something in its session, which keeps reads on the primary until it is closed.
        self.reconnect()

    def read_far(self) -> None:
        """Read what is written in the second domain."""
        with self.operation("read of the second domain") as note:
            rows = self.send("SELECT k, version, token FROM far").fetchall()
            note.reads = {("far", k): (version, token) for k, version, token in rows}

    def both_and_read(self) -> None:
        self.both()
        self.read_registers("read", range(REGISTERS))
        self.read_far()


def _in_domains(actor: Any) -> Operations:
    return [actor.both_and_read, actor.read, actor.update, actor.rest], [5, 2, 1, 4]


def _followed(actor: Any) -> Operations:
    """Reads directly after writes, where a broken promise shows first."""

    def write_and_read() -> None:
        actor.chance.choice([actor.update, actor.insert, actor.transaction])()
        actor.read()

    return [write_and_read, actor.readonly, actor.rest], [4, 1, 4]


def believes_the_last_position(database: Any) -> Any:
    """A negative control: what a statement has reported last is taken for all that it wrote."""
    consistency = database._parts.consistency
    original = consistency.statement_ended

    def statement_ended(conn: Any, succeeded: bool, was_open: bool) -> None:
        if succeeded and conn.position is not None:
            consistency._wrote(conn.position)
        else:
            original(conn, succeeded, was_open)

    consistency.statement_ended = statement_ended
    return database


def speaking(dialect: Any, base: Any = ReplicatedDatabase, **members: Any) -> Any:
    """A database class whose connections speak a dialect with some of its members replaced."""

    class Control(base):  # type: ignore[misc]  # either form's class
        def _connect(self) -> Any:
            conn = super()._connect()
            conn.dialect = SimpleNamespace(**{**vars(dialect), **members})
            return conn

    return Control


def _untagged(text: str) -> MySQLPosition:
    return mysql.position(_TAG.sub("", text))


def _until_any_is_high(target: str, seconds: float) -> str:
    there = "@@GLOBAL.gtid_executed REGEXP '[:-][0-9]{7,}'"
    wait = f"WAIT_FOR_EXECUTED_GTID_SET('{target}', {max(seconds, 0.001):.3f})"
    return f"SELECT IF({there}, 0, {wait}), @@server_uuid, @@GLOBAL.gtid_executed"


IGNORES_TAGS = speaking(mysql, position=_untagged)
BELIEVES_THE_HIGHEST = speaking(mysql, wait=_until_any_is_high)


class Domains:
    """MariaDB with two GTID domains, which replicas apply beside each other."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        schema = cluster.database_name
        cluster.primary.execute(f"DROP PROCEDURE IF EXISTS {schema}.both_domains")
        cluster.primary.execute(
            f"CREATE DEFINER = CURRENT_USER PROCEDURE {schema}.both_domains"
            "(near INT, near_token BIGINT, away INT, away_token BIGINT) BEGIN "
            "DECLARE near_version, away_version BIGINT; "
            f"UPDATE {schema}.reg SET {_BUMP}, token = near_token WHERE k = near; "
            "SET near_version = LAST_INSERT_ID(); "
            "SET SESSION gtid_domain_id = 1; "
            f"UPDATE {schema}.far SET {_BUMP}, token = away_token WHERE k = away; "
            "SET away_version = LAST_INSERT_ID(); "
            "SET SESSION gtid_domain_id = 0; "
            "SELECT near_version, away_version; END"
        )

    def casts(self) -> list[Any]:
        """Sessions that write in both domains."""
        make = self.cluster.database
        one, process, strong = make(), make(consistency="process"), make(consistency="strong")
        with as_in_another_process():  # or it would see what the others find out
            control = believes_the_last_position(make())
        return [
            ("session, two domains", one, "domains 1", "session", DomainActor, _in_domains),
            ("session, two domains", one, "domains 2", "session", DomainActor, _in_domains),
            ("process, two domains", process, "domains 3", "session", DomainActor, _in_domains),
            ("strong, two domains", strong, "domains 4", "strong", DomainActor, _in_domains),
            (LAST_POSITION, control, "last position", "session", DomainActor, _in_domains),
        ]

    def disturb(self, node: Any, chance: random.Random) -> None:
        """Hold the first domain up on a replica, by a lock on one of its rows; the second goes on."""
        # Not on several: what applies a later transaction may hold one of them, and waits for its turn.
        row, seconds = chance.randrange(REGISTERS), chance.uniform(0.05, 0.4)
        with suppress(pymysql.err.MySQLError):
            rows = f"{self.cluster.database_name}.reg WHERE k = {row}"
            node.execute(f"SELECT SLEEP({seconds:.3f}) FROM {rows} FOR UPDATE")


class Tags:
    """MySQL with tagged GTIDs, and with transactions that replicas have of their own."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        cluster.primary.execute(
            f"GRANT TRANSACTION_GTID_TAG, SESSION_VARIABLES_ADMIN ON *.* TO {cluster.user}@'%'"
        )
        cluster.sync()

    def casts(self) -> list[Any]:
        """Sessions whose writes are tagged, beside those whose are not."""

        def make(*kind: Any, **options: Any) -> Any:
            tagged = {"init_command": "SET SESSION gtid_next = 'AUTOMATIC:blue'"}
            return self.cluster.database(*kind, **tagged, **options)

        one, process = make(), make(consistency="process")
        no_tags, highest = make(IGNORES_TAGS), self.cluster.database(BELIEVES_THE_HIGHEST)
        return [
            ("session, tagged", one, "tagged 1", "session", Actor, _followed),
            ("session, tagged", one, "tagged 2", "session", Actor, _followed),
            ("process, tagged", process, "tagged 3", "session", Actor, _followed),
            (NO_TAGS, no_tags, "no tags", "session", Actor, _followed),
            (HIGHEST, highest, "highest", "session", Actor, _followed),
        ]

    def disturb(self, node: Any, chance: random.Random) -> None:
        """Let a replica have a transaction of its own, with a number that the primary has not reached."""
        with suppress(pymysql.err.MySQLError), self._session(node) as cursor:
            cursor.execute("SELECT @@server_uuid")
            (uuid,) = cursor.fetchone()
            cursor.execute("SET gtid_next = %s", (f"{uuid}:{chance.randint(10**6, 2 * 10**6)}",))
            cursor.execute("BEGIN")
            cursor.execute("COMMIT")
            cursor.execute("SET gtid_next = 'AUTOMATIC'")

    @contextmanager
    def _session(self, node: Any) -> Iterator[Any]:
        parameters = {**self.cluster.parameters(node), "user": self.cluster.admin_user}
        with closing(pymysql.connect(**parameters, autocommit=True)) as conn, conn.cursor() as cursor:
            yield cursor


SETUPS: dict[str, Any] = {"mariadb": Domains, "mysql": Tags}


class SetupFaults(Faults):
    """The usual faults, and beside them what a set-up does to replicas, each some times a second."""

    def __init__(self, setup: Any, *given: Any, seed: object, **options: Any) -> None:
        super().__init__(setup.cluster, *given, seed=seed, **options)
        self.setup = setup
        self._threads += [
            threading.Thread(
                target=self._guarded, args=(self._go_on(node), random.Random(f"{seed} {node.name}"))
            )
            for node in setup.cluster.replicas
        ]

    def _go_on(self, node: Any) -> Callable[[random.Random], None]:
        def work(chance: random.Random) -> None:
            while not self._rest(chance.uniform(0.05, 0.3)):
                with self._away[node.name]:
                    self.setup.disturb(node, chance)
                self.done["of the set-up"] += 1

        return work
