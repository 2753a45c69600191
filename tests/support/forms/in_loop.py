"""Runs a test of the synchronous form against the asyncio form, unchanged.

The test is set up, run and torn down in greenlets of one task, so that the event loop goes on while it waits
for a server. Databases that a cluster makes meanwhile are asynchronous, and tasks take the place of threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.runner import CallInfo, runtestprotocol
from playhouse.pwasyncio import await_, greenlet_spawn
from support.forms import threads

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster

_made: list[Any] = []


def _in_tasks(count: int, work: Callable[[], Any]) -> list[Any]:
    loop = asyncio.get_running_loop()
    # As a thread, each begins in an empty context.
    tasks = [contextvars.Context().run(loop.create_task, greenlet_spawn(work)) for _ in range(count)]

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*tasks))

    done: list[Any] = await_(all_of_them())
    return done


@contextmanager
def _asynchronous() -> Iterator[None]:
    original: Any = LocalCluster.database

    def database(self: LocalCluster, database_class: Any = None, **options: Any) -> Any:
        if database_class in (None, ReplicatedDatabase):
            database_class = AsyncReplicatedDatabase
            options.pop("ssl_disabled", None)  # aiomysql has none: without a context there is no TLS
        made = original(self, database_class, **options)
        _made.append(made)
        return made

    LocalCluster.database = database  # type: ignore[method-assign]
    threads.instead = _in_tasks
    try:
        yield
    finally:
        LocalCluster.database = original  # type: ignore[method-assign]
        threads.instead = None
        _made.clear()


class _Stage:
    """An event loop with one task, in which a test is set up, run and torn down in greenlets."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._phases: asyncio.Queue[Any] = asyncio.Queue()
        self._task = self._loop.create_task(self._work())

    async def _work(self) -> None:
        while (phase := await self._phases.get()) is not None:
            work, done = phase
            try:
                done.set_result(await greenlet_spawn(work))
            except BaseException as exc:
                done.set_exception(exc)
        for database in _made:
            if isinstance(database, AsyncReplicatedDatabase):
                await database.close_pool()

    def run(self, work: Callable[[], Any]) -> Any:
        """Run `work` in the task; return or raise what it does."""
        done = self._loop.create_future()
        self._phases.put_nowait((work, done))
        return self._loop.run_until_complete(done)

    def end(self) -> None:
        """Close the databases and the loop. Fails if a task is still running."""
        loop = self._loop
        self._phases.put_nowait(None)
        try:
            loop.run_until_complete(self._task)
            assert not asyncio.all_tasks(loop), f"tasks were left behind: {asyncio.all_tasks(loop)}"
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test whose `form` is "asyncio", its fixtures included, as one task of a loop of its own."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or callspec.params.get("form") != "asyncio":
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    stage = _Stage()
    from_call = CallInfo.from_call

    def in_stage(func: Any, when: Any, reraise: Any = None) -> Any:
        # Reports are made outside: parsing sources inside of greenlets fails in Python 3.11.
        def phase() -> Any:
            try:
                return stage.run(func)
            finally:
                if when == "teardown":
                    stage.end()

        return from_call(phase, when, reraise)

    with _asynchronous(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(CallInfo, "from_call", staticmethod(in_stage))
        runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Await a test that is a coroutine function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    await_(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
