"""Scopes: ``with`` blocks and decorators that change routing for the context they run in.

The scopes in force are a chain in one `ContextVar`, so they follow tasks, greenlets and whatever copies
the context. A frame knows whether it has ended; an ended frame is never in force, wherever it was copied.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Generic, Literal, TypeVar

Place = Literal["readonly", "primary", "causal"]
F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")


class Frame:
    """One entered scope of one database.

    Attributes:
        owner: the identity of the database it belongs to.
        place: what the scope is.
        ended: True once it was left; it is then in force nowhere.
        level: the consistency it asks for, or None for the database's own.
        session: the obligations of a ``causal_session()``; None for other scopes.
        node: the node that a ``readonly()`` or ``causal_session()`` has picked, kept for its whole life.
        served: whether that node has served a read.
        snapshot: what ``readonly(snapshot=True)`` reads from; None for other scopes.
        must_reach: the position that the next node has to show, once the scope had to leave one.
        max_lag: by how many seconds the node may be behind when it is picked; None: as the database says.
    """

    __slots__ = (
        "ended", "level", "lock", "max_lag", "must_reach", "node", "owner", "place", "served", "session",
        "snapshot",
    )  # fmt: skip

    def __init__(self, owner: object, place: Place, *, level: str | None = None, session: Any = None) -> None:
        self.owner = owner
        self.place = place
        self.level = level
        self.session = session
        self.ended = False
        self.node: Any = None
        self.served = False
        self.must_reach: Any = None
        self.max_lag: float | None = None
        self.snapshot: Any = None
        self.lock = threading.RLock()

    def end(self) -> None:
        """Be in force nowhere any more."""
        self.ended = True
        if self.snapshot is not None:
            self.snapshot.end()


class _Link:
    """A frame in the chain of one context. The frame may be in several chains at once."""

    __slots__ = ("frame", "outer")

    def __init__(self, frame: Frame, outer: _Link | None) -> None:
        self.frame = frame
        self.outer = outer


_chain: ContextVar[_Link | None] = ContextVar("peewee_replicas_scopes", default=None)


def any_here() -> bool:
    """Whether this context has entered a scope of any database; where it has not, none need be looked for."""
    return _chain.get() is not None


def innermost(owner: object) -> Frame | None:
    """The innermost ``readonly()`` or ``primary()`` of `owner` that is in force in this context."""
    link = _chain.get()
    while link is not None:
        frame = link.frame
        if frame.owner is owner and not frame.ended and frame.session is None:
            return frame
        link = link.outer
    return None


def pinning(owner: object) -> Frame | None:
    """The outermost scope in force that keeps to one node, which those nested in it reuse."""
    found = None
    for frame in _frames(owner):
        if frame.place != "primary":
            found = frame
    return found


def tightest_lag(owner: object) -> float | None:
    """The tightest ``readonly(max_lag=…)`` of `owner` that is in force in this context."""
    bounds = [frame.max_lag for frame in _frames(owner) if frame.max_lag is not None]
    return min(bounds) if bounds else None


def snapshotting(owner: object) -> Frame | None:
    """The innermost ``readonly(snapshot=True)`` of `owner` that is in force in this context."""
    return next((frame for frame in _frames(owner) if frame.snapshot is not None), None)


def causal(owner: object) -> Frame | None:
    """The innermost ``causal_session()`` of `owner` that is in force in this context."""
    if _chain.get() is None:
        return None
    return next((frame for frame in _frames(owner) if frame.session is not None), None)


def _frames(owner: object) -> Iterator[Frame]:
    link = _chain.get()
    while link is not None:
        frame = link.frame
        if frame.owner is owner and not frame.ended:
            yield frame
        link = link.outer


def _live(link: _Link | None) -> _Link | None:
    while link is not None and link.frame.ended:
        link = link.outer
    return link


class Steps:
    """Puts a frame in force for each step of what runs in steps, and leaves the chain as it was found.

    Scopes that a step has entered and not left are in force again in the next step, and only there.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._inner: tuple[Frame, ...] = ()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step."""
        before = _live(_chain.get())
        link = mine = _Link(self._frame, before)
        for frame in self._inner:
            link = _Link(frame, link)
        _chain.set(link)
        try:
            yield
        finally:
            inner = []
            left = _chain.get()
            while left is not None and left is not mine:
                inner.append(left.frame)
                left = left.outer
            if left is mine:  # else this is another context, in whose chain there is nothing of ours
                self._inner = tuple(reversed(inner))
                _chain.set(before)


def _in_force(frame: Frame) -> AbstractContextManager[None]:
    return Steps(frame).step()


class Scope(Generic[D]):
    """A scope that was asked for; ``with`` enters it, and as a decorator it wraps each call.

    Parameters:
        database: what ``with … as`` gives.
        begin: called at each entry; makes its frame, or raises to refuse the entry.
    """

    def __init__(self, database: D, begin: Callable[[], Frame]) -> None:
        self._database = database
        self._begin = begin
        self._entered: list[Frame] = []

    def __enter__(self) -> D:
        frame = self._begin()
        self._entered.append(frame)
        _chain.set(_Link(frame, _live(_chain.get())))
        return self._database

    def __exit__(self, *_: object) -> None:
        frame = self._own_frame()
        frame.end()
        self._entered.remove(frame)
        # In another context than the one entered there is nothing of ours to take off the chain.
        _chain.set(_live(_chain.get()))

    async def __aenter__(self) -> D:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def _own_frame(self) -> Frame:
        link = _chain.get()
        while link is not None:
            if link.frame in self._entered:
                return link.frame
            link = link.outer
        return self._entered[-1]

    def __call__(self, function: F) -> F:
        """Decorate a function, generator, coroutine or async generator; each call has its own scope."""
        # An object with a __call__ of its own is what that is.
        called: Any = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004  # not asked whether, but which
        if inspect.isasyncgenfunction(called):
            wrapped = self._wrap_async_generator(function)
        elif inspect.iscoroutinefunction(called):
            wrapped = self._wrap_coroutine(function)
        elif inspect.isgeneratorfunction(called):
            wrapped = self._wrap_generator(function)
        elif callable(function):
            wrapped = self._wrap_function(function)
        else:
            raise TypeError(f"a scope decorates a function, not {function!r}")
        return functools.wraps(function)(wrapped)  # type: ignore[return-value]  # same signature

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            frame = self._begin()
            try:
                with _in_force(frame):
                    result = function(*args, **kwargs)
            finally:
                frame.end()
            # What has not run yet has to be in a scope when it does.
            if isinstance(result, GeneratorType):
                return self._wrap_generator(lambda: result)()
            if isinstance(result, CoroutineType):
                return self._wrap_coroutine(lambda: result)()
            if isinstance(result, AsyncGeneratorType):
                return self._wrap_async_generator(lambda: result)()
            return result

        return call

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            frame = self._begin()
            try:
                with _in_force(frame):
                    return await function(*args, **kwargs)
            finally:
                frame.end()

        return call

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            frame = self._begin()
            try:
                result = yield from _Stepped(frame, function(*args, **kwargs))
                return result
            finally:
                frame.end()

        return call

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            frame = self._begin()
            generator = function(*args, **kwargs)
            steps = Steps(frame)
            step, value = generator.asend, None
            try:
                while True:
                    with steps.step():
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
                try:
                    with steps.step():
                        await generator.aclose()
                finally:
                    frame.end()

        return call


class _Stepped(Generator[Any, Any, Any]):
    """A generator that is in its scope exactly while it runs, never while its consumer does."""

    def __init__(self, frame: Frame, generator: Generator[Any, Any, Any]) -> None:
        self._steps = Steps(frame)
        self._generator = generator

    def send(self, value: Any) -> Any:
        with self._steps.step():
            return self._generator.send(value)

    def throw(self, *args: Any) -> Any:
        with self._steps.step():
            return self._generator.throw(*args)

    def close(self) -> None:
        with self._steps.step():
            self._generator.close()
