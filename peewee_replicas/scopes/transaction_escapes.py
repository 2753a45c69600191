"""Detect statements that escape their transaction: they inherited the context, but not the connection.

A task, or a thread that was given a copy of the context, inherits the scopes of the code that started it,
but has a connection of its own. So its statements are not part of the transaction around it.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from types import FrameType
from typing import Any

import peewee

from ..errors import TransactionEscapeError, TransactionEscapeWarning
from ..statements.redaction import redacted

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_BELOW = (_OURS, os.path.dirname(os.path.abspath(peewee.__file__)) + os.sep + "peewee.py")


class _Opened:
    """One transaction of one database, as recorded in its context and in the copies of that context."""

    __slots__ = ("ended", "outer", "owner", "place", "transaction")

    def __init__(self, owner: object, transaction: object, place: str, outer: _Opened | None) -> None:
        self.owner = owner
        self.transaction = transaction
        self.place = place
        self.outer = outer
        self.ended = False


_opened: ContextVar[_Opened | None] = ContextVar("peewee_replicas_transactions", default=None)


class Escapes:
    """Reports statements outside the transaction that their context was in when it was copied.

    Parameters:
        owner: the identity of the database.
        action: ``"warn"`` or ``"error"``.
    """

    def __init__(self, owner: object, action: str) -> None:
        self._owner = owner
        self._action = action
        self._entered: dict[int, list[_Opened]] = {}

    def enter(self, transaction: object) -> None:
        """Record that a transaction was opened in this context."""
        before = _opened.get()  # kept until set() has returned, for the reason given in `put_in_force`
        opened = _Opened(self._owner, transaction, _place(), _live(before))
        self._entered.setdefault(id(transaction), []).append(opened)
        _opened.set(opened)

    def leave(self, transaction: object) -> None:
        """Record that a transaction has ended, for all contexts that were copied while it was open."""
        entered = self._entered.get(id(transaction))
        if entered:
            entered.pop().ended = True
            if not entered:
                del self._entered[id(transaction)]
        before = _opened.get()
        _opened.set(_live(before))

    def check(self, transactions: Sequence[object], what: str) -> None:
        """Report a statement that is not part of the transaction its context was copied from.

        Parameters:
            transactions: the transactions open in this thread or task.
            what: the statement.

        Raises:
            TransactionEscapeError: with ``on_transaction_escape="error"``; nothing was sent.
        """
        opened = _live(_opened.get())
        while opened is not None and opened.owner is not self._owner:
            opened = _live(opened.outer)
        if opened is None or any(transaction is opened.transaction for transaction in transactions):
            return
        message = (
            f"{redacted(what)!r} at {_place()} is not part of the transaction that was opened at "
            f"{opened.place}: this thread or task inherited the context, but not the connection. Query in "
            "the task that opened the transaction, start this one after it, or give it a context of its own "
            "(contextvars.Context())"
        )
        if self._action == "error":
            raise TransactionEscapeError(message)
        caller = _caller()
        warnings.warn_explicit(
            message,
            TransactionEscapeWarning,
            caller.f_code.co_filename,
            caller.f_lineno,
            caller.f_globals.get("__name__"),
            caller.f_globals.setdefault("__warningregistry__", {}),
        )


def _live(opened: _Opened | None) -> _Opened | None:
    while opened is not None and opened.ended:
        opened = opened.outer
    return opened


def _is_below(filename: str) -> bool:
    return filename.startswith(_BELOW) or os.sep + "playhouse" + os.sep in filename


def _caller() -> FrameType:
    """Return the stack frame of the user's code that led here."""
    frame, level = sys._getframe(1), 0
    while _is_below(frame.f_code.co_filename):
        before = frame.f_back
        if before is None:
            level += 1
            before = _switched_from(level)
        if before is None:
            break
        frame = before
    return frame


def _switched_from(level: int) -> FrameType | None:
    # The asyncio form runs in greenlets: the code that started a greenlet is on the stack of its parent.
    module: Any = sys.modules.get("greenlet")
    running = module.getcurrent() if module is not None else None
    for _ in range(level):
        running = running.parent if running is not None else None
    return None if running is None else running.gr_frame


def _place() -> str:
    frame = _caller()
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
