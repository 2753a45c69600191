"""Scopes: ``with`` blocks and decorators that change routing for the context they run in.

The scopes in force are a chain in one `ContextVar`, so they follow tasks, greenlets and whatever copies
the context. A frame knows whether it has ended; an ended frame is never in force, wherever it was copied.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Literal, TypeVar

Place = Literal["readonly", "primary"]
F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")


class Frame:
    """One entered scope of one database.

    Attributes:
        owner: the identity of the database it belongs to.
        place: what the scope is.
        ended: True once it was left; it is then in force nowhere.
        node: the node that a ``readonly()`` has picked, kept for its whole life.
    """

    __slots__ = ("ended", "lock", "node", "owner", "place")

    def __init__(self, owner: object, place: Place) -> None:
        self.owner = owner
        self.place = place
        self.ended = False
        self.node: Any = None
        self.lock = threading.RLock()


class _Link:
    """A frame in the chain of one context. The frame may be in several chains at once."""

    __slots__ = ("frame", "outer")

    def __init__(self, frame: Frame, outer: _Link | None) -> None:
        self.frame = frame
        self.outer = outer


_chain: ContextVar[_Link | None] = ContextVar("peewee_replicas_scopes", default=None)


def innermost(owner: object) -> Frame | None:
    """The innermost scope of `owner` that is in force in this context."""
    link = _chain.get()
    while link is not None:
        frame = link.frame
        if frame.owner is owner and not frame.ended:
            return frame
        link = link.outer
    return None


def pinning(owner: object) -> Frame | None:
    """The outermost ``readonly()`` in force, which holds the node that all nested ones reuse."""
    found = None
    link = _chain.get()
    while link is not None:
        frame = link.frame
        if frame.owner is owner and not frame.ended and frame.place == "readonly":
            found = frame
        link = link.outer
    return found


def _live(link: _Link | None) -> _Link | None:
    while link is not None and link.frame.ended:
        link = link.outer
    return link


@contextmanager
def _in_force(frame: Frame) -> Iterator[None]:
    """Put a frame in force for one step of a generator, and leave the chain as it was found."""
    before = _live(_chain.get())
    mine = _Link(frame, before)
    _chain.set(mine)
    try:
        yield
    finally:
        if _chain.get() is mine:
            _chain.set(before)


class Scope(Generic[D]):
    """A scope that was asked for; ``with`` enters it, and as a decorator it wraps each call.

    Parameters:
        database: what ``with … as`` gives.
        place: what the scope is.
        enter: called at each entry; returns the database's identity, or raises to refuse the entry.
    """

    def __init__(self, database: D, place: Place, enter: Callable[[], object]) -> None:
        self._database = database
        self._place = place
        self._enter = enter
        self._entered: list[Frame] = []

    def _begin(self) -> Frame:
        return Frame(self._enter(), self._place)

    def __enter__(self) -> D:
        frame = self._begin()
        self._entered.append(frame)
        _chain.set(_Link(frame, _live(_chain.get())))
        return self._database

    def __exit__(self, *_: object) -> None:
        frame = self._own_frame()
        frame.ended = True
        self._entered.remove(frame)
        # In another context than the one entered there is nothing of ours to take off the chain.
        _chain.set(_live(_chain.get()))

    def _own_frame(self) -> Frame:
        link = _chain.get()
        while link is not None:
            if link.frame in self._entered:
                return link.frame
            link = link.outer
        return self._entered[-1]

    def __call__(self, function: F) -> F:
        """Decorate a function, generator, coroutine or async generator; each call has its own scope."""
        if inspect.isasyncgenfunction(function):
            wrapped = self._wrap_async_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapped = self._wrap_coroutine(function)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._wrap_generator(function)
        elif callable(function):
            wrapped = self._wrap_function(function)
        else:
            raise TypeError(f"{self._place}() decorates a function, not {function!r}")
        return functools.wraps(function)(wrapped)  # type: ignore[return-value]  # same signature

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            frame = self._begin()
            try:
                with _in_force(frame):
                    return function(*args, **kwargs)
            finally:
                frame.ended = True

        return call

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            frame = self._begin()
            try:
                with _in_force(frame):
                    return await function(*args, **kwargs)
            finally:
                frame.ended = True

        return call

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            frame = self._begin()
            try:
                result = yield from _Stepped(frame, function(*args, **kwargs))
                return result
            finally:
                frame.ended = True

        return call

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            frame = self._begin()
            generator = function(*args, **kwargs)
            step, value = generator.asend, None
            try:
                while True:
                    with _in_force(frame):
                        try:
                            item = await step(value)
                        except StopAsyncIteration:
                            return
                    step = generator.asend
                    try:
                        value = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as exc:
                        # The consumer threw into us: the decorated generator is to see it.
                        step, value = generator.athrow, exc
            finally:
                with _in_force(frame):
                    await generator.aclose()
                frame.ended = True

        return call


class _Stepped(Generator[Any, Any, Any]):
    """A generator that is in its scope exactly while it runs, never while its consumer does."""

    def __init__(self, frame: Frame, generator: Generator[Any, Any, Any]) -> None:
        self._frame = frame
        self._generator = generator

    def send(self, value: Any) -> Any:
        with _in_force(self._frame):
            return self._generator.send(value)

    def throw(self, *args: Any) -> Any:
        with _in_force(self._frame):
            return self._generator.throw(*args)

    def close(self) -> None:
        with _in_force(self._frame):
            self._generator.close()
