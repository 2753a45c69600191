"""Scopes, without any server: which one is in force, where."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.forms.threads import in_thread

from peewee_replicas.scopes.frames import Frame, innermost, pinning
from peewee_replicas.scopes.scope import Scope

OWNER = SimpleNamespace(units=None)
OTHER = object()


def readonly(owner: object = OWNER) -> Scope[None]:
    return Scope(None, lambda: Frame(owner, "readonly"))


def primary(owner: object = OWNER) -> Scope[None]:
    return Scope(None, lambda: Frame(owner, "primary"))


def here(owner: object = OWNER) -> str:
    frame = innermost(owner)
    return frame.place if frame is not None else ""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    assert here() == ""
    yield
    assert here() == ""


def test_the_innermost_scope_wins_and_leaving_restores_the_outer_one() -> None:
    with readonly():
        assert here() == "readonly"
        with primary():
            assert here() == "primary"
            with readonly():
                assert here() == "readonly"
            assert here() == "primary"
        assert here() == "readonly"


def test_an_exception_leaves_the_scope() -> None:
    with pytest.raises(ZeroDivisionError), readonly():
        raise ZeroDivisionError
    assert here() == ""


def test_a_scope_of_one_database_is_none_of_another() -> None:
    with readonly(), primary(OTHER):
        assert here() == "readonly"
        assert here(OTHER) == "primary"
    assert here(OTHER) == ""


def test_nested_readonly_scopes_share_the_node_of_the_outermost() -> None:
    with readonly():
        outermost = innermost(OWNER)
        with readonly():
            assert pinning(OWNER) is outermost
            with primary():
                assert pinning(OWNER) is outermost
    assert pinning(OWNER) is None


def test_one_scope_object_can_be_entered_again_and_within_itself() -> None:
    scope = readonly()
    with scope:
        with scope:
            assert here() == "readonly"
        assert here() == "readonly"
    assert here() == ""
    with scope:
        assert here() == "readonly"


def test_a_scope_that_may_not_be_entered_leaves_nothing() -> None:
    def refuse() -> Frame:
        raise RuntimeError

    scope = Scope(None, refuse)
    with pytest.raises(RuntimeError), scope:
        pass
    assert here() == ""


def test_a_decorated_function_is_in_its_scope_each_time_it_is_called() -> None:
    @readonly()
    def where(again: int = 0) -> list[str]:
        """What it says."""
        return [here(), *(where(again - 1) if again else [])]

    assert where(2) == ["readonly"] * 3
    assert (where.__name__, where.__doc__) == ("where", "What it says.")
    with primary():
        assert where() == ["readonly"]
        assert here() == "primary"


def test_a_decorated_method_gets_its_object() -> None:
    class Thing:
        @readonly()
        def where(self) -> tuple[object, str]:
            return self, here()

    thing = Thing()
    assert thing.where() == (thing, "readonly")


def test_only_what_can_be_called_can_be_decorated() -> None:
    with pytest.raises(TypeError, match="decorates a function"):
        readonly()(5)  # type: ignore[type-var]  # what is tested


def test_a_decorated_generator_is_in_its_scope_exactly_while_it_runs() -> None:
    seen: list[str] = []

    @readonly()
    def numbers() -> Iterator[Any]:
        try:
            got = yield here()
            seen.append(f"{got} {here()}")
            try:
                yield here()
            except KeyError:
                yield f"caught {here()}"
        finally:
            seen.append(f"closed {here()}")

    generator: Any = numbers()
    assert here() == ""
    assert next(generator) == "readonly"
    assert here() == ""
    with primary():
        assert generator.send("sent") == "readonly"
        assert here() == "primary"
        assert generator.throw(KeyError()) == "caught readonly"
        assert here() == "primary"
    generator.close()
    assert seen == ["sent readonly", "closed readonly"]
    assert here() == ""


def test_a_generator_returns_its_value_through_the_decorator() -> None:
    @readonly()
    def inner() -> Any:
        yield 1
        return "value"

    def outer() -> Any:
        return (yield from inner())

    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "value"


@pytest.mark.lesson(30)
def test_an_unfinished_generator_leaks_nothing() -> None:
    @readonly()
    def numbers() -> Iterator[int]:
        yield from range(10)

    generator = numbers()
    next(iter(generator))
    assert here() == ""
    del generator
    gc.collect()
    assert here() == ""


def test_a_scope_entered_inside_a_plain_generator_ends_with_it() -> None:
    def leaking() -> Iterator[str]:
        with readonly():
            yield here()

    generator = leaking()
    assert next(generator) == "readonly"
    with primary():
        generator.close()
        assert here() == "primary"
    assert here() == ""


def test_scopes_left_out_of_order_end_each_its_own() -> None:
    first, second = readonly(), primary()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert here() == "primary"
    second.__exit__(None, None, None)
    assert here() == ""


def test_a_scope_left_in_another_context_ends_there_and_here() -> None:
    scope = readonly()
    context = contextvars.copy_context()
    context.run(scope.__enter__)
    assert here() == ""
    assert context.run(here) == "readonly"
    scope.__exit__(None, None, None)
    assert context.run(here) == ""


def test_a_copied_context_does_not_keep_an_ended_scope_in_force() -> None:
    with primary():
        with readonly():
            copy = contextvars.copy_context()
            assert copy.run(here) == "readonly"
        assert copy.run(here) == "primary"
    assert copy.run(here) == ""


def test_a_decorated_coroutine_and_the_tasks_it_starts() -> None:
    seen: dict[str, str] = {}

    async def late(event: asyncio.Event) -> None:
        seen["inherited"] = here()
        await event.wait()
        seen["after the scope"] = here()

    @readonly()
    async def scoped(event: asyncio.Event) -> asyncio.Task[None]:
        seen["inside"] = here()
        task = asyncio.create_task(late(event))
        await asyncio.sleep(0)
        seen["after await"] = here()
        seen["to_thread"] = await asyncio.to_thread(here)
        return task

    async def main() -> None:
        event = asyncio.Event()
        task = await scoped(event)
        seen["outside"] = here()
        event.set()
        await task

    asyncio.run(main())
    assert seen == {
        "inside": "readonly",
        "inherited": "readonly",
        "after await": "readonly",
        "to_thread": "readonly",
        "outside": "",
        "after the scope": "",
    }


def test_tasks_side_by_side_are_each_in_their_own_scope() -> None:
    async def one(scope: Scope[None], place: str) -> None:
        for _ in range(5):
            with scope:
                await asyncio.sleep(0)
                assert here() == place
            await asyncio.sleep(0)
            assert here() == ""

    async def main() -> None:
        shared = readonly()
        await asyncio.gather(*(one(shared, "readonly") for _ in range(5)), one(primary(), "primary"))

    asyncio.run(main())


def test_a_decorated_async_generator_is_in_its_scope_exactly_while_it_runs() -> None:
    seen: list[str] = []

    @readonly()
    async def numbers() -> AsyncIterator[Any]:
        try:
            await asyncio.sleep(0)
            got = yield here()
            seen.append(f"{got} {here()}")
            try:
                yield here()
            except KeyError:
                yield f"caught {here()}"
        finally:
            await asyncio.sleep(0)
            seen.append(f"closed {here()}")

    async def main() -> None:
        generator: Any = numbers()
        assert await generator.__anext__() == "readonly"
        assert here() == ""
        assert await generator.asend("sent") == "readonly"
        assert await generator.athrow(KeyError()) == "caught readonly"
        assert here() == ""
        await generator.aclose()
        assert here() == ""
        assert [item async for item in numbers()][:1] == ["readonly"]
        async for _ in numbers():
            assert here() == ""
            break

    asyncio.run(main())
    assert seen[:2] == ["sent readonly", "closed readonly"]


def test_an_error_of_an_async_generator_reaches_its_consumer() -> None:
    @readonly()
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async for _ in failing():
                pass
        assert here() == ""

    asyncio.run(main())


def test_a_cancelled_coroutine_leaves_its_scope() -> None:
    @readonly()
    async def waiting() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiting(), 0.01)
        assert here() == ""

    asyncio.run(main())


@pytest.mark.lesson(11)
def test_a_plain_thread_inherits_no_scope_and_leaves_none() -> None:
    seen: list[str] = []

    def work() -> None:
        seen.append(here())
        readonly().__enter__()  # never left

    with primary():
        in_thread(work)
        assert here() == "primary"
    assert seen == [""]
