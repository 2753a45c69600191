"""Leaving a scope, by whatever way: it ends exactly the entry that was left, once, and nothing stays behind.

The ways were listed by walking over what can call ``__exit__``, and over what can run between the parts of an
entry:

* a ``with`` block in the context it was entered in, nested or hand over hand;
* the same `Scope` object in several threads or tasks, left in its own context or in another one;
* by hand, once too often, or before any entry;
* an exception of a signal handler, at each step of entering and leaving.

What can be decorated was listed from the callables that a class body may hold.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

import peewee_replicas.scopes
from peewee_replicas.scopes.frames import Frame, here, innermost
from peewee_replicas.scopes.scope import Scope

OWNER = SimpleNamespace(units=None)


def scope(place: Any = "readonly") -> Scope[None]:
    return Scope(None, lambda: Frame(OWNER, place))


def place() -> str:
    frame = innermost(OWNER)
    return frame.place if frame is not None else ""


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    yield
    assert place() == ""


def in_a_context_of_its_own(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test where no other test has left a scope, and leave none to others if it fails."""

    @functools.wraps(test)
    def run() -> None:
        contextvars.Context().run(test)

    return run


# Hand over hand


def frames_alive() -> int:
    gc.collect()
    return sum(type(thing) is Frame for thing in gc.get_objects())


@in_a_context_of_its_own
def test_scopes_entered_hand_over_hand_do_not_pile_up() -> None:
    before = frames_alive()
    held = scope()
    held.__enter__()
    for _ in range(20_000):
        following = scope()
        following.__enter__()
        held.__exit__(None, None, None)
        held = following
    assert len(here()) == 1
    assert frames_alive() - before < 10
    held.__exit__(None, None, None)
    assert here() == ()


@in_a_context_of_its_own
def test_scopes_that_another_context_has_ended_do_not_pile_up() -> None:
    for _ in range(1000):
        entered = scope()
        entered.__enter__()
        contextvars.Context().run(entered.__exit__, None, None, None)
    with scope():
        assert len(here()) == 1


def test_leaving_the_outer_scope_first_keeps_the_inner_one() -> None:
    outer, inner = scope("primary"), scope("readonly")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert place() == "readonly"
    inner.__exit__(None, None, None)


# One object, several entries


def test_a_task_that_leaves_in_another_context_ends_its_own_entry() -> None:
    shared = scope()

    async def leaves(entered: asyncio.Event, left: asyncio.Event) -> str:
        shared.__enter__()
        entered.set()
        await asyncio.sleep(0)
        contextvars.Context().run(shared.__exit__, None, None, None)
        left.set()
        return place()

    async def stays(entered: asyncio.Event, left: asyncio.Event) -> str:
        await entered.wait()
        with shared:
            await left.wait()
            return place()

    async def both(first: Any, second: Any) -> list[str]:
        events = (asyncio.Event(), asyncio.Event())
        return await asyncio.gather(first(*events), second(*events))

    assert asyncio.run(both(leaves, stays)) == ["", "readonly"]


def test_an_entry_that_nobody_in_particular_leaves_is_not_taken_for_anothers() -> None:
    """As when an event loop closes a forgotten generator in a task of its own."""
    shared = scope()
    seen = {}

    async def forgotten(entered: asyncio.Event, closed: asyncio.Event) -> None:
        shared.__enter__()
        entered.set()
        await closed.wait()
        seen["forgotten"] = place()

    async def main() -> None:
        entered, closed = asyncio.Event(), asyncio.Event()
        waiting = asyncio.create_task(forgotten(entered, closed))
        await entered.wait()
        with shared:
            await asyncio.create_task(_leave(shared), context=contextvars.Context()) if (
                sys.version_info >= (3, 11)
            ) else await asyncio.create_task(_leave(shared))
            seen["stays"] = place()
        closed.set()
        await waiting

    asyncio.run(main())
    assert seen == {"stays": "readonly", "forgotten": ""}


async def _leave(shared: Scope[None]) -> None:
    shared.__exit__(None, None, None)


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_threads_that_share_a_scope_leave_their_own_entries(first_to_leave: int) -> None:
    shared = scope()
    barrier = threading.Barrier(2, timeout=30)
    seen: dict[int, list[str]] = {0: [], 1: []}

    def work(number: int) -> None:
        shared.__enter__()
        barrier.wait()
        if number == first_to_leave:
            contextvars.Context().run(shared.__exit__, None, None, None)
        barrier.wait()
        seen[number].append(place())
        if number != first_to_leave:
            shared.__exit__(None, None, None)
        seen[number].append(place())

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen[first_to_leave] == ["", ""]
    assert seen[1 - first_to_leave] == ["readonly", ""]


def test_a_child_task_that_leaves_in_its_parents_context_ends_its_own_entry() -> None:
    shared = scope()

    async def child(parents: contextvars.Context) -> None:
        shared.__enter__()
        parents.copy().run(shared.__exit__, None, None, None)
        assert len(shared._entries) == 1

    async def main() -> str:
        with shared:
            await asyncio.create_task(child(contextvars.copy_context()))
            return place()

    assert asyncio.run(main()) == "readonly"


def test_the_only_entry_may_be_left_anywhere() -> None:
    entered = scope()
    entered.__enter__()
    thread = threading.Thread(target=entered.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert place() == ""


# By hand


def test_leaving_what_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="was not entered"):
        scope().__exit__(None, None, None)


def test_leaving_once_too_often_says_so_and_ends_nothing_else() -> None:
    inner = scope("primary")
    with scope():
        with inner:
            pass
        with pytest.raises(RuntimeError, match="left already"):
            inner.__exit__(None, None, None)
        assert place() == "readonly"


def test_leaving_what_was_not_entered_says_so_in_async_code_too() -> None:
    async def main() -> None:
        await scope().__aexit__(None, None, None)

    with pytest.raises(RuntimeError, match="was not entered"):
        asyncio.run(main())


def test_a_scope_entered_by_hand_and_let_go_stays_in_force() -> None:
    def run() -> str:
        scope().__enter__()
        gc.collect()
        return place()

    assert contextvars.Context().run(run) == "readonly"


def test_exit_stacks_hold_scopes() -> None:
    with ExitStack() as stack:
        stack.enter_context(scope())
        gc.collect()
        assert place() == "readonly"
    assert place() == ""

    async def main() -> str:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(scope())
            return place()

    assert asyncio.run(main()) == "readonly"


# Interrupts


class Interrupt(BaseException):
    """As a signal handler may raise."""


_FOLDER = str(Path(peewee_replicas.scopes.__file__).parent)


def interrupted_at(step: int, work: Callable[[], Any]) -> bool:
    """Run `work`, raising at this step of the scopes room; False if there are not so many steps."""
    steps = itertools.count()
    raised = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal raised
        if not frame.f_code.co_filename.startswith(_FOLDER):
            return None
        if not raised and next(steps) == step:
            raised = True
            raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Interrupt:
        sys.settrace(before)
        # The exception is still there, and so is what its traceback refers to.
        assert place() == "", step
    finally:
        sys.settrace(before)
    return raised


def _with_block() -> None:
    with scope():
        pass


def _nested() -> None:
    shared = scope()
    with shared, shared, scope("primary"):
        pass


@scope()
def _decorated() -> str:
    return place()


@scope()
def _generator() -> Iterator[str]:
    yield place()


@scope()
async def _coroutine() -> str:
    return place()


def _run_coroutine() -> None:
    with pytest.raises(StopIteration):
        _coroutine().send(None)


@pytest.mark.parametrize(
    "work",
    [_with_block, _nested, _decorated, lambda: list(_generator()), _run_coroutine],
    ids=["with", "nested", "function", "generator", "coroutine"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_step_of_a_scope_leaves_none_in_force(work: Callable[[], Any]) -> None:
    for step in itertools.count():
        if not contextvars.copy_context().run(interrupted_at, step, work):
            break
    assert step > 5


# Decorating


def test_a_class_cannot_be_decorated() -> None:
    with pytest.raises(TypeError, match=r"Reports is a class.*decorate its methods"):

        @scope()
        class Reports:
            pass


def test_methods_of_every_kind_can_be_decorated() -> None:
    class Reports:
        @scope()
        def of_object(self) -> tuple[str, Any]:
            return place(), type(self)

        @scope()
        @classmethod
        def of_class(cls) -> tuple[str, Any]:
            return place(), cls

        @classmethod
        @scope()
        def of_class_too(cls) -> tuple[str, Any]:
            return place(), cls

        @scope()
        @staticmethod
        def of_none() -> tuple[str, Any]:
            return place(), None

    reports = Reports()
    assert reports.of_object() == ("readonly", Reports)
    assert reports.of_class() == Reports.of_class() == ("readonly", Reports)
    assert reports.of_class_too() == ("readonly", Reports)
    assert reports.of_none() == Reports.of_none() == ("readonly", None)
