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
    """One entry of a scope that has not been left yet.

    Attributes:
        frame: the frame that it put in force.
        who: the thread or task that has entered.
        held: a weak reference to the ``__exit__`` that the ``with`` statement holds until it ends; None if
            the scope was entered without one.
    """

    __slots__ = ("frame", "held", "who")

    def __init__(self, frame: Frame, who: object, held: object) -> None:
        self.frame = frame
        self.who = who
        self.held = held


class _Exit:
    """The ``__exit__`` of `Scope`, in a form that a signal handler's exception cannot skip.

    Such an exception may arrive just as ``__exit__`` is called, before its first line has run. The thread
    would then stay in the scope forever. A ``with`` statement looks up ``__exit__`` before it enters, and
    holds it until the block has ended. So each look-up returns a new object, and when that object is freed,
    the scope is left if it has not been left yet.
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
    """A scope, for use in a ``with`` statement or as a decorator.

    Several threads and tasks may enter the same object, and it may be nested in itself.

    Parameters:
        database: the value that ``with … as`` binds.
        begin: called at each entry; returns a new frame, or raises to refuse the entry.
    """

    def __init__(self, database: D, begin: Callable[[], Frame]) -> None:
        self._database = database
        self._begin = begin
        self._entries: list[_Entry] = []
        self._about_to_enter: dict[int, object] = {}
        self._left_elsewhere = 0

    def about_to_enter(self, leave: object) -> None:
        """Record that a ``with`` statement of this thread has looked up `leave`."""
        self._about_to_enter[threading.get_ident()] = weakref.ref(leave, self._dropped)

    def __enter__(self) -> D:
        held = self._about_to_enter.pop(threading.get_ident(), None)
        entry = _Entry(self._begin(), current_task() or threading.get_ident(), held)
        try:
            self._entries.append(entry)
            put_in_force(entry.frame)
        except BaseException:  # an interrupt: neither the with block nor __exit__ will run
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
            RuntimeError: the scope was not entered.
        """
        if not self._entries:
            raise RuntimeError("this scope cannot be left: it was not entered, or was left already")
        entry = self._entries[0] if len(self._entries) == 1 else self._own_entry()
        if entry is not None:
            self._end(entry)
        else:
            # An event loop closes an abandoned generator in a new task, which has no entry here. Ending the
            # wrong entry would let another task write inside its readonly(). So this exit is only counted,
            # until all remaining entries must belong to such generators.
            self._left_elsewhere += 1
        if self._left_elsewhere:
            self._end_the_rest()

    def _end_the_rest(self) -> None:
        if self._left_elsewhere >= len(self._entries):
            self._left_elsewhere = 0
            for entry in list(self._entries):
                self._end(entry)

    def _own_entry(self) -> _Entry | None:
        """Return the last entry of the current thread or task, preferably one of this context."""
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
            TypeError: `function` is a class, or cannot be called.
        """
        if inspect.isclass(function):
            raise TypeError(
                f"a scope decorates functions, and {function.__qualname__} is a class, which it would turn "
                "into a function: decorate its methods, or enter the scope where they are called"
            )
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self(function.__func__))
        # For an object with its own __call__, the kind of that method decides.
        called: object = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004  # the method itself is needed
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
            raise TypeError(f"a scope decorates a function, not a {type(function).__name__}")
        return functools.wraps(function)(wrapped)  # type: ignore[return-value]  # same signature

    def _wrap_function(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            frame = self._begin()
            try:
                with _in_force(frame):
                    result = function(*args, **kwargs)
            finally:
                frame.end()
            # The body of a generator or coroutine has not run yet. It must be in the scope when it does.
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
                        # The consumer threw an exception into this generator: pass it on.
                        step, value = generator.athrow, exc
            finally:
                try:
                    with steps.step():
                        await generator.aclose()
                finally:
                    frame.end()

        return call


class _Stepped(Generator[object, object, object]):
    """A generator that is in its scope only while it runs, never while its consumer runs."""

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
