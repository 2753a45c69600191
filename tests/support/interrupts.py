"""Raises an exception at a chosen step of what a thread does, as a signal handler or a time limit would."""

from __future__ import annotations

import dis
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType
from typing import Any

import pymysql

import peewee_replicas

# A step is a line of the library or of the driver that is about to run.
_FOLDERS = tuple(
    os.path.dirname(os.path.abspath(module.__file__)) + os.sep  # type: ignore[type-var, arg-type]
    for module in (peewee_replicas, pymysql)
)
_NOT_OURS = _FOLDERS[0] + "testing" + os.sep


class Interrupt(BaseException):
    """What is raised; no `Exception`, so that nothing takes it for an error of a statement."""


@cache
def _has_steps(file: str) -> bool:
    """Whether lines of this file are steps; kept, as every call asks, and the file system answers slowly."""
    ours = file.startswith(_FOLDERS) or os.path.realpath(file).startswith(_FOLDERS)
    return ours and not file.startswith(_NOT_OURS)


@cache
def _ends_of_with(code: CodeType) -> frozenset[int]:
    """Where a ``with`` statement is about to call ``__exit__`` after its body.

    The tracer sees a line there, but CPython looks for signals only after the call, so none arrives between.
    """
    found = set()
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("NOP", "CACHE")]
    for place, step in enumerate(steps[:-3]):
        nones = steps[place : place + 3]
        calls = steps[place + 3].opname in ("CALL", "PRECALL", "CALL_FUNCTION")
        ends = calls and all(one.opname == "LOAD_CONST" and one.argval is None for one in nones)
        if ends or step.opname == "POP_BLOCK":  # that one stands before the call in Python 3.10
            found.add(step.offset)
            if place and steps[place - 1].opname in ("SWAP", "ROT_TWO"):  # below the value of a `return`
                found.add(steps[place - 1].offset)
    return frozenset(found)


def _is_swallowed(frame: FrameType | None) -> bool:
    """Whether Python swallows what is raised here: in a finalizer, or the callback of a weak reference."""
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "_forget", "_dropped"):
            return True
        frame = frame.f_back
    return False


class Steps:
    """Counts steps, and raises at one of them.

    Parameters:
        number: at which step; 0: at none.

    Attributes:
        count: how many there were.
        where: the one at which it was raised; ``""`` as long as it was not.
        line: its function and the text of its line.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.count = 0
        self.where = ""
        self.line: tuple[str, str] = ("", "")

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Callable[..., Any] | None:
        """A trace function for calls."""
        return self._line if _has_steps(frame.f_code.co_filename) else None

    def _line(self, frame: FrameType, event: str, _arg: Any) -> Callable[..., Any]:
        if event == "line" and not self.where and frame.f_lasti not in _ends_of_with(frame.f_code):
            self.count += 1
            if self.count == self.number and _is_swallowed(frame):
                self.number += 1
            elif self.count == self.number:
                code = frame.f_code
                where = "/".join(code.co_filename.split(os.sep)[-2:])
                self.where = f"{where}:{frame.f_lineno} {code.co_name}"
                self.line = (code.co_name, linecache.getline(code.co_filename, frame.f_lineno).strip())
                raise Interrupt(self.where)
        return self._line

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the steps of this thread in the block."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)


def comes_from(exc: BaseException | None, interrupt: type[BaseException] = Interrupt) -> bool:
    """Whether an error is the interrupt, or was raised because of it."""
    while exc is not None:
        if isinstance(exc, interrupt):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
