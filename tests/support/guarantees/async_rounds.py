"""The rounds of `rounds` in the asyncio form, where every session is a task."""

from __future__ import annotations

import asyncio
import contextvars
import random
from types import SimpleNamespace
from typing import Any

from playhouse.pwasyncio import await_, greenlet_spawn
from support.guarantees.actors import Actor
from support.guarantees.rounds import BINLOG_PROGRESS, CausalActor, Work, binlog_wait
from support.guarantees.setups import speaking
from support.guarantees.workload import Round

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.servers import mariadb

# As in the rounds of threads.
_BINLOG_PROGRESS = speaking(mariadb, AsyncReplicatedDatabase, wait=binlog_wait)


class _Actor(Actor):
    def rest(self) -> None:
        await_(asyncio.sleep(0.005))


class _Helper:
    """Runs in tasks what `CausalActor` runs in threads."""

    def submit(self, work: Any, *arguments: Any) -> Any:
        context = getattr(work, "__self__", None)
        loop = asyncio.get_running_loop()
        if isinstance(context, contextvars.Context):
            task = context.run(loop.create_task, greenlet_spawn(*arguments))
        else:
            task = loop.create_task(greenlet_spawn(work, *arguments))
        return SimpleNamespace(result=lambda: await_(task))

    def shutdown(self) -> None:
        """Do nothing, since tasks keep nothing open."""


class _CausalActor(CausalActor):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._helper.shutdown()
        self._helper = _Helper()  # type: ignore[assignment]  # as much of it as is used


_KINDS: dict[Any, Any] = {Actor: _Actor, CausalActor: _CausalActor}


class _Cluster:
    """A cluster that makes asynchronous databases."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def database(self, database_class: Any = None, **options: Any) -> Any:
        kind = _BINLOG_PROGRESS if database_class is BINLOG_PROGRESS else AsyncReplicatedDatabase
        return self._cluster.database(kind, **options)


class AsyncWork(Work):
    """Like `Work`, but all sessions of a round are tasks of one event loop."""

    def __init__(self, cluster: Any, *, controls: bool = True) -> None:
        super().__init__(_Cluster(cluster), controls=controls)
        self.admin = cluster.database()

    def _act(self, shared: Round, seconds: float, seed: object, faults: Any) -> None:
        asyncio.run(self._all(shared, seconds, seed, faults))

    async def _all(self, shared: Round, seconds: float, seed: object, faults: Any) -> None:
        tasks = []
        for number, (group, database, session, promise, kind, operations) in enumerate(self.casts):
            chance = random.Random(f"{seed} {number}")
            actor = _KINDS[kind](shared, database, group, session, promise, chance)
            tasks.append(asyncio.create_task(greenlet_spawn(actor.run, *operations(actor))))
        with faults:
            await asyncio.wait(tasks, timeout=seconds)
            shared.stop.set()
            await asyncio.gather(*tasks)
        for _, database, *_ in self.databases.values():
            await database.close_pool()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks were left behind: {left}"
