"""Scopes: ``with`` blocks and decorators that change routing for the context they run in."""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Generic, TypeVar, cast, overload

from ..concurrency import current_task
from .frames import Frame, Steps, here, put_in_force, take_off_ended

F = TypeVar("F", bound=Callable[..., object])
D = TypeVar("D")


def _in_force(frame: Frame) -> AbstractContextManager[None]:
    return Steps(frame).step()


class _Entry:
    """One entry of a scope that was not left yet.

    Attributes:
        frame: what it put in force.
        who: the thread or task that has entered.
        held: refers to what the ``with`` statement holds until it is over; None if entered by hand.
    """

    __slots__ = ("frame", "held", "who")

    def __init__(self, frame: Frame, who: object, held: object) -> None:
        self.frame = frame
        self.who = who
        self.held = held


class _Exit:
    """The ``__exit__`` of `Scope`, in a form that a signal handler's exception cannot skip.

    Such an exception may arrive just as ``__exit__`` is called, before its first line has run, and the thread
    would stay in the scope for good. A ``with`` statement looks ``__exit__`` up before it enters, and holds
    what it has found until it is over. So each look-up gives an object of its own, and when that one goes
    the scope is left, if it has not been.
    """

    @overload
    def __get__(self, scope: None, owner: type) -> Callable[..., None]: ...

    @overload
    def __get__(self, scope: Scope[D], owner: type) -> Callable[..., None]: ...

    def __get__(self, scope: Scope[D] | None, owner: type) -> Callable[..., None]:
        if scope is None:
            return Scope.leave
        leave = functools.partial(scope.leave)
        scope.about_to_enter(leave)
        return leave


class Scope(Generic[D]):
    """A scope that was asked for; ``with`` enters it, and as a decorator it wraps each call.

    The same object may be entered by several threads and tasks, and within itself.

    Parameters:
        database: what ``with … as`` gives.
        begin: called at each entry; makes its frame, or raises to refuse the entry.
    """

    def __init__(self, database: D, begin: Callable[[], Frame]) -> None:
        self._database = database
        self._begin = begin
        self._entries: list[_Entry] = []
        self._about_to_enter: dict[int, object] = {}
        self._left_elsewhere = 0

    def about_to_enter(self, leave: object) -> None:
        """A ``with`` statement of this thread has looked up how to leave."""
        self._about_to_enter[threading.get_ident()] = weakref.ref(leave, self._dropped)

    def __enter__(self) -> D:
        held = self._about_to_enter.pop(threading.get_ident(), None)
        entry = _Entry(self._begin(), current_task() or threading.get_ident(), held)
        try:
            self._entries.append(entry)
            put_in_force(entry.frame)
        except BaseException:  # an interrupt: the with block will not be run, nor left
            self._end(entry)
            raise
        return self._database

    __exit__ = _Exit()

    async def __aenter__(self) -> D:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self, *_: object) -> None:
        """Leave the scope, as the end of a ``with`` block does.

        Raises:
            RuntimeError: it was not entered.
        """
        if not self._entries:
            raise RuntimeError("this scope cannot be left: it was not entered, or was left already")
        entry = self._entries[0] if len(self._entries) == 1 else self._own_entry()
        if entry is not None:
            self._end(entry)
        else:
            # An event loop closes a forgotten generator in a task of its own. To take another's entry for
            # that generator's would let the other write inside its readonly(), so it waits until all
            # entries that are left must be of this kind.
            self._left_elsewhere += 1
        if self._left_elsewhere:
            self._end_the_rest()

    def _end_the_rest(self) -> None:
        if self._left_elsewhere >= len(self._entries):
            self._left_elsewhere = 0
            for entry in list(self._entries):
                self._end(entry)

    def _own_entry(self) -> _Entry | None:
        """The last entry of the thread or task that runs now, in this context if there is one."""
        who = current_task() or threading.get_ident()
        own = [entry for entry in self._entries if entry.who == who]
        for frame in here():
            for entry in own:
                if entry.frame is frame:
                    return entry
        return own[-1] if own else None

    def _end(self, entry: _Entry) -> None:
        entry.frame.end()
        if entry in self._entries:
            self._entries.remove(entry)
        take_off_ended()

    def _dropped(self, held: object) -> None:
        for entry in self._entries:
            if entry.held is held:
                self._end(entry)
                return

    def __call__(self, function: F) -> F:
        """Decorate a function, method, generator, coroutine or async generator; each call has its own scope.

        Raises:
            TypeError: it is a class, or cannot be called.
        """
        if inspect.isclass(function):
            raise TypeError(
                f"a scope decorates functions, and {function.__qualname__} is a class, which it would turn "
                "into a function: decorate its methods, or enter the scope where they are called"
            )
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self(function.__func__))
        # An object with a __call__ of its own is what that is.
        called: object = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004  # not asked whether, but which
        if inspect.isasyncgenfunction(called):
            wrapped = self._wrap_async_generator(
                cast("Callable[..., AsyncGenerator[object, object]]", function)
            )
        elif inspect.iscoroutinefunction(called):
            wrapped = self._wrap_coroutine(cast("Callable[..., Awaitable[object]]", function))
        elif inspect.isgeneratorfunction(called):
            wrapped = self._wrap_generator(cast("Callable[..., Generator[object, object, object]]", function))
        elif callable(function):
            wrapped = self._wrap_function(function)
        else:
            raise TypeError(f"a scope decorates a function, not {function!r}")
        return functools.wraps(function)(wrapped)  # type: ignore[return-value]  # same signature

    def _wrap_function(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
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

    def _wrap_coroutine(self, function: Callable[..., Awaitable[object]]) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> object:
            frame = self._begin()
            try:
                with _in_force(frame):
                    return await function(*args, **kwargs)
            finally:
                frame.end()

        return call

    def _wrap_generator(
        self, function: Callable[..., Generator[object, object, object]]
    ) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> Generator[object, object, object]:
            frame = self._begin()
            try:
                result = yield from _Stepped(frame, function(*args, **kwargs))
                return result
            finally:
                frame.end()

        return call

    def _wrap_async_generator(
        self, function: Callable[..., AsyncGenerator[object, object]]
    ) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
            frame = self._begin()
            generator = function(*args, **kwargs)
            steps = Steps(frame)
            step: Callable[[Any], Awaitable[object]] = generator.asend
            value: object = None
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


class _Stepped(Generator[object, object, object]):
    """A generator that is in its scope exactly while it runs, never while its consumer does."""

    def __init__(self, frame: Frame, generator: Generator[object, object, object]) -> None:
        self._steps = Steps(frame)
        self._generator = generator

    def send(self, value: object) -> object:
        with self._steps.step():
            return self._generator.send(value)

    def throw(self, *args: Any) -> object:
        with self._steps.step():
            return self._generator.throw(*args)

    def close(self) -> None:
        with self._steps.step():
            self._generator.close()
