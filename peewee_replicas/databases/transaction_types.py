"""The types of peewee's transactions, for editors and type checkers; peewee declares none."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Transaction(Protocol):
    """What ``with db.atomic() as transaction`` gives: peewee's transaction or savepoint."""

    def commit(self, begin: bool = True) -> None:
        """Commit, and begin anew unless `begin` is false."""

    def rollback(self, begin: bool = True) -> None:
        """Roll back, and begin anew unless `begin` is false."""


class TransactionScope(Protocol):
    """What ``db.atomic()`` returns: a context manager that is also a decorator."""

    def __enter__(self) -> Transaction: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def __call__(self, function: F, /) -> F: ...


class AsyncTransaction(Transaction, Protocol):
    """What ``async with db.atomic() as transaction`` gives."""

    async def acommit(self) -> None:
        """Commit, and begin anew."""

    async def arollback(self) -> None:
        """Roll back, and begin anew."""


class AsyncTransactionScope(TransactionScope, Protocol):
    """What ``db.atomic()`` of the asyncio form returns; ``with`` is for code inside ``db.run(…)``."""

    async def __aenter__(self) -> AsyncTransaction: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
