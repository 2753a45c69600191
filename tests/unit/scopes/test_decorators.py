"""Scopes as decorators: whatever is decorated runs in its scope, and nothing else does."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from peewee_replicas.scopes.frames import Frame, innermost
from peewee_replicas.scopes.scope import Scope

OWNER = SimpleNamespace(units=None)


def scope(place: Any) -> Scope[Any]:
    return Scope(None, lambda: Frame(OWNER, place))


def here() -> str | None:
    frame = innermost(OWNER)
    return None if frame is None else frame.place


def generator() -> Iterator[Any]:
    yield here()


async def coroutine() -> Any:
    await asyncio.sleep(0)
    return here()


def expression() -> Any:
    return (here() for _ in "1")


class Generating:
    def __call__(self) -> Iterator[Any]:
        yield here()


class Awaiting:
    async def __call__(self) -> Any:
        await asyncio.sleep(0)
        return here()


class Both:
    async def __call__(self) -> AsyncIterator[Any]:
        yield here()


@pytest.mark.parametrize(
    "made",
    [
        generator,
        Generating(),
        functools.partial(generator),
        lambda: generator(),
        expression,
    ],
    ids=["function", "object", "partial", "returned", "expression"],
)
def test_what_a_generator_runs_is_in_the_scope(made: Any) -> None:
    assert list(scope("readonly")(made)()) == ["readonly"]
    assert here() is None


@pytest.mark.parametrize(
    "made",
    [coroutine, Awaiting(), functools.partial(coroutine), lambda: coroutine()],
    ids=["function", "object", "partial", "returned"],
)
def test_what_a_coroutine_runs_is_in_the_scope(made: Any) -> None:
    assert asyncio.run(scope("readonly")(made)()) == "readonly"
    assert here() is None


@pytest.mark.parametrize("made", [Both(), lambda: Both()()], ids=["object", "returned"])
def test_what_an_async_generator_runs_is_in_the_scope(made: Any) -> None:
    async def collect() -> list[Any]:
        return [item async for item in scope("readonly")(made)()]

    assert asyncio.run(collect()) == ["readonly"]


def test_an_object_that_awaits_is_still_seen_to_await() -> None:
    assert inspect.iscoroutinefunction(scope("readonly")(Awaiting()))


def test_a_scope_that_a_generator_holds_open_is_not_its_consumers() -> None:
    @scope("readonly")
    def outer() -> Iterator[Any]:
        with scope("primary"):
            yield here()
            yield here()
        yield here()

    running = outer()
    seen = []
    for place in running:
        seen.append((place, here()))
    assert seen == [("primary", None), ("primary", None), ("readonly", None)]


def test_a_generator_keeps_its_scopes_when_its_consumer_enters_others() -> None:
    @scope("primary")
    def outer() -> Iterator[Any]:
        with scope("readonly"):
            yield here()
            yield here()

    running = outer()
    assert next(running) == "readonly"
    with scope("primary"):
        assert next(running) == "readonly"
        assert here() == "primary"
    running.close()
    assert here() is None


def test_a_scope_that_an_async_generator_holds_open_is_not_its_consumers() -> None:
    @scope("primary")
    async def outer() -> AsyncIterator[Any]:
        with scope("readonly"):
            yield here()
            yield here()

    async def consume() -> list[Any]:
        return [(place, here()) async for place in outer()]

    assert asyncio.run(consume()) == [("readonly", None), ("readonly", None)]
