"""Lets background jobs see what was written before they were queued."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.databases.routed_members import members_of
from peewee_replicas.errors import BookmarkError
from peewee_replicas.log import log_event
from peewee_replicas.scopes.scope import Scope

from .middleware import resolved

F = TypeVar("F", bound=Callable[..., object])


def in_session(database: object) -> Callable[[F], F]:
    """Decorate a job so that it takes ``bookmark=`` and runs in a ``causal_session()`` that begins with it.

    Put it below the queue's own decorator. If the bookmark is no longer valid, for example because the job
    was queued for more than a day, the job reads on the primary. The job also sees what this process wrote
    before the job began, and what the job writes itself.

    Parameters:
        database: a database, or a proxy that is initialized when the job runs.
    """

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):

            async def run_async(*args: object, bookmark: str | None = None, **kwargs: object) -> object:
                scoped = _scoped(function, resolved(database), bookmark)
                return await cast("Callable[..., Awaitable[object]]", scoped)(*args, **kwargs)

            return functools.wraps(function)(run_async)  # type: ignore[return-value]  # it takes one argument more

        def run(*args: object, bookmark: str | None = None, **kwargs: object) -> object:
            return _scoped(function, resolved(database), bookmark)(*args, **kwargs)

        return functools.wraps(function)(run)  # type: ignore[return-value]  # it takes one argument more

    return decorate


def _scoped(
    function: Callable[..., object], database: Replicated, bookmark: str | None
) -> Callable[..., object]:
    positions = []
    if bookmark is not None:
        try:
            positions.append(members_of(database).scopes.position_of(bookmark))
        except BookmarkError as exc:
            log_event(
                "bookmark_unusable",
                "a job reads on the primary, because its bookmark cannot be used: %s",
                exc,
                cause=str(exc),
            )
            function = database.primary()(function)
    return Scope(database, lambda: members_of(database).scopes.causal_frame(positions, apart=True))(function)
