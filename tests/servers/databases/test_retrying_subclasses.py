"""Subclasses that retry: nothing is done twice, and losses of nodes are survived as the subclass intends.

The members of the kind are peewee's methods that send or open something, each overridden to retry:
`execute_sql()`, `begin()`, `commit()`, `connect()` and `close()`; and the ways to retry them that published
programs use, found by a search for subclasses of peewee's MySQL classes (`support.databases.retrying`).
Classes that stand behind ours are in `tests/unit/databases/test_order_of_bases.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest
from peewee import OperationalError
from support.clusters.lagging import MODELS, Slot, n_of
from support.databases.models import Item
from support.databases.retrying import CLASSES, MIXINS, WAYS_AROUND, mixed
from support.proxies.saboteur import Saboteur
from support.waiting import until

from peewee_replicas import OutcomeUnknown, ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase

pytestmark = pytest.mark.parametrize("server", ["mariadb"], indirect=True)


def names(cluster: Any) -> list[str]:
    return [name for (name,) in cluster.primary.execute("SELECT name FROM app.item ORDER BY id")]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("mixin", MIXINS)
def test_a_retry_does_not_repeat_a_write_that_may_have_happened(
    db: Any, cluster: Any, mixin: Any, cls: Any
) -> None:
    usual = {"consistency": "eventual", "probe_interval": None, "ssl_disabled": True}
    with Saboteur(cluster.primary.port) as saboteur:
        database = cluster.database(mixed(mixin, cls), port=saboteur.port, **usual)
        with database.bind_ctx([Item]):
            Item.create(name="first")
            for when, write in (
                ("after", lambda: Item.create(name="ledger")),
                ("before", lambda: Item.update(n=Item.n + 1).execute()),
                ("after", lambda: database.execute_sql("INSERT INTO item (name, n) VALUES ('raw', 0)")),
            ):
                saboteur.cut("item", when)
                with pytest.raises(OutcomeUnknown):
                    write()
            assert names(cluster) == ["first", "ledger", "raw"]
            assert saboteur.spoiled == 3
            # The program may repeat it, once it has looked.
            Item.create(name="ledger")
            assert Item.update(n=Item.n + 1).execute() == 4
            saboteur.cut("COMMIT", "after")
            with pytest.raises(OutcomeUnknown), database.atomic():
                Item.create(name="in a transaction")
            assert names(cluster)[3:] == ["ledger", "in a transaction"]
        database.close()


@pytest.mark.parametrize("method", ["execute_sql", "aexecute_sql"])
def test_nor_does_a_retry_in_the_asyncio_form(db: Any, cluster: Any, method: str) -> None:
    class Sync:
        def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
            try:
                return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin
            except OperationalError:
                return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin

    class Async:
        async def aexecute_sql(self: Any, sql: str, params: Any = None) -> Any:
            try:
                return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin
            except OperationalError:
                return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin

    async def work(database: Any, saboteur: Saboteur) -> None:
        insert = "INSERT INTO item (name, n) VALUES ('ledger', 0)"
        async with database:
            await database.aexecute_sql("DELETE FROM item")
            saboteur.cut("INSERT", "after")
            with pytest.raises(OutcomeUnknown):
                await database.aexecute_sql(insert)
            assert names(cluster) == ["ledger"]
            await database.aexecute_sql(insert)
        await database.close_pool()

    with Saboteur(cluster.primary.port) as saboteur:
        cls = mixed({"execute_sql": Sync, "aexecute_sql": Async}[method], AsyncReplicatedDatabase)
        database = cluster.database(cls, port=saboteur.port, probe_interval=None)
        asyncio.run(work(database, saboteur))
    assert names(cluster) == ["ledger", "ledger"]


@pytest.mark.parametrize("mixin", MIXINS)
def test_a_retry_does_not_make_a_lost_commit_look_like_a_success(db: Any, cluster: Any, mixin: Any) -> None:
    with Saboteur(cluster.primary.port) as saboteur:
        database = cluster.database(
            mixed(mixin, ReplicatedDatabase), port=saboteur.port, probe_interval=None, ssl_disabled=True
        )
        with database.bind_ctx([Item]):
            database.connection()
            saboteur.cut("COMMIT", "before")
            with pytest.raises(OutcomeUnknown), database.atomic():
                Item.create(name="lost")
            assert names(cluster) == []
            with database.atomic():
                Item.create(name="kept")
            assert names(cluster) == ["kept"]
        database.close()


@pytest.mark.parametrize("mixin", WAYS_AROUND)
def test_no_other_way_to_retry_repeats_such_a_write(db: Any, cluster: Any, mixin: Any) -> None:
    with Saboteur(cluster.primary.port) as saboteur:
        database = cluster.database(
            mixed(mixin, ReplicatedDatabase),
            port=saboteur.port,
            probe_interval=None,
            ssl_disabled=True,
            consistency="eventual",
        )
        with database.bind_ctx([Item]):
            Item.create(name="first")
            saboteur.cut("item", "after")
            with pytest.raises(OutcomeUnknown):
                Item.create(name="ledger")
            assert names(cluster) == ["first", "ledger"]
            Item.create(name="ledger")
            cluster.sync()
            saboteur.cut("item", "after")
            assert Item.select().count() == 3  # a read is repeated
        database.close()


class RetryAwaitedQuery:
    async def aexecute(self: Any, query: Any) -> Any:
        try:
            return await super().aexecute(query)  # type: ignore[misc]  # a mixin
        except OperationalError:
            return await super().aexecute(query)  # type: ignore[misc]  # a mixin


def test_nor_does_a_retry_above_the_statement_in_the_asyncio_form(db: Any, cluster: Any) -> None:
    async def work(port: int, cut: Any) -> None:
        database = cluster.database(mixed(RetryAwaitedQuery, AsyncReplicatedDatabase), port=port)
        with database.bind_ctx([Item]):
            async with database:
                pass
            cut("item", "after")
            with pytest.raises(OutcomeUnknown):
                await database.aexecute(Item.insert(name="query", n=0))
        await database.aclose()
        await database.close_pool()

    with Saboteur(cluster.primary.port) as saboteur:
        asyncio.run(work(saboteur.port, saboteur.cut))
    assert names(cluster) == ["query"]


class TimeLimit(BaseException):
    """Like gevent's, which is no `Exception`."""


class RetryAfterTimeLimit:
    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin
        except TimeLimit:
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin


def test_a_write_that_a_time_limit_ended_is_not_repeated(db: Any, cluster: Any) -> None:
    database = cluster.database(mixed(RetryAfterTimeLimit, ReplicatedDatabase), probe_interval=None)
    with database.bind_ctx([Item]):
        Item.create(name="first")
        question = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT%SLEEP(%'"

        def strike() -> None:
            until(lambda: cluster.primary.execute(question) == [(1,)])
            os.kill(os.getpid(), signal.SIGALRM)

        def stop(*_: Any) -> None:
            raise TimeLimit

        before = signal.signal(signal.SIGALRM, stop)
        thread = threading.Thread(target=strike)
        thread.start()
        try:
            with pytest.raises(OutcomeUnknown, match="was interrupted"):
                database.execute_sql("INSERT INTO item (name, n) SELECT 'slow', SLEEP(2)")
        finally:
            thread.join()
            signal.signal(signal.SIGALRM, before)
        until(lambda: cluster.primary.execute(question) == [(0,)])
        # The server may have noticed that the client has gone.
        assert names(cluster) in (["first"], ["first", "slow"])
    database.close()


@pytest.mark.parametrize(("mixin", "cls"), list(zip(MIXINS, CLASSES * 2, strict=True)))
def test_reads_and_writes_go_on_after_nodes_were_killed(own_three: Any, mixin: Any, cls: Any) -> None:
    database = own_three.database(mixed(mixin, cls), connect_timeout=5)
    with database.bind_ctx(MODELS):
        assert Slot.update(n=2).execute() == 1
        assert n_of() == 2
        own_three.replicas[0].kill()
        assert [n_of() for _ in range(4)] == [2] * 4
        own_three.primary.kill()
        with database.readonly():
            assert n_of() == 2
        with pytest.raises(OperationalError):
            Slot.update(n=3).execute()
        own_three.primary.start()
        with database.atomic():
            assert Slot.update(n=Slot.n + 1).execute() == 1
        assert Slot.update(n=Slot.n + 1).execute() == 1
        with database.primary():
            assert n_of() == 4
    database.close()


class Patient:
    """Retries `connect()` for as long as a primary takes to start."""

    attempts = 0
    between: Any = staticmethod(lambda: None)

    def connect(self: Any, reuse_if_open: bool = False) -> bool:
        for left in reversed(range(ATTEMPTS_TO_CONNECT)):
            try:
                return bool(super().connect(reuse_if_open))  # type: ignore[misc]  # a mixin
            except OperationalError:
                if not left or not self.is_closed():
                    raise
                type(self).attempts += 1
                type(self).between()
        raise AssertionError("not reached")


ATTEMPTS_TO_CONNECT = 3


@pytest.mark.parametrize("cls", CLASSES)
def test_connect_overridden_opens_the_primary_too(own_pair: Any, cls: Any) -> None:
    """As with peewee's own class, a statement that finds no connection calls `connect()`."""
    patient = mixed(Patient, cls)
    database = own_pair.database(patient)
    with database.bind_ctx(MODELS):
        for work in (
            lambda: Slot.update(n=5).execute(),
            lambda: database.begin() or database.rollback(),
            lambda: database.cursor().execute("DO 1"),
        ):
            own_pair.primary.kill()
            patient.attempts, patient.between = 0, staticmethod(own_pair.primary.start)
            assert n_of() is not None  # a replica is connected
            work()
            assert patient.attempts == 1
        own_pair.sync()
        assert n_of() == 5
    database.close()


@pytest.mark.parametrize("cls", CLASSES)
def test_connect_and_close_overridden_are_called_as_peewee_calls_them(
    db: Any, cluster: Any, cls: Any
) -> None:
    calls: list[str] = []

    class Watching:
        def connect(self: Any, reuse_if_open: bool = False) -> Any:
            calls.append("connect")
            found = super().connect(reuse_if_open)  # type: ignore[misc]  # a mixin
            self.execute_sql("SELECT 1").fetchall()
            return found

        def close(self: Any) -> Any:
            calls.append("close")
            return super().close()  # type: ignore[misc]  # a mixin

    database = cluster.database(mixed(Watching, cls), consistency="eventual")
    for work in (
        lambda: database.execute_sql("SELECT 1"),
        lambda: database.execute_sql("DO 1"),
        lambda: database.cursor(),
        lambda: database.begin(),
        lambda: database.connection(),
    ):
        work()
        assert calls[0] == "connect"
        assert set(calls) == {"connect"}
        database.close()
        calls.clear()
    with database.connection_context():
        database.execute_sql("SELECT 1")
    assert calls == ["connect", "close"]
