"""Scopes: ``with`` blocks and decorators that change routing for the context they run in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Generic, TypeVar

from .frames import Frame, Steps, here, put_in_force, take_off_ended

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")


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
        put_in_force(frame)
        return self._database

    def __exit__(self, *_: object) -> None:
        frame = self._own_frame()
        frame.end()
        self._entered.remove(frame)
        take_off_ended()

    async def __aenter__(self) -> D:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def _own_frame(self) -> Frame:
        for frame in here():
            if frame in self._entered:
                return frame
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
