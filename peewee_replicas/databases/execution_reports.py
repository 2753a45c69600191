"""Tell peewee's query hooks, the route hooks and the ``counting()`` blocks of a database what it executes."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..concurrency import Clock
from ..connections.peewee_types import Cursor
from ..connections.peewee_version import query_log
from ..connections.user_database import UserDatabase
from ..events import RouteHook, tell_of_route
from ..execution.execution import Execution
from ..execution.run import run
from .common_hooks import take_common_hooks
from .counting import Counting


class ExecutionReports:
    """All who want to know what one database executes.

    Parameters:
        db: the user's database.

    Attributes:
        query_log: logs the user's statements, and has peewee's query hooks.
        route_hooks: callables that get one `RouteEvent` per execution.
        counting: the ``counting()`` blocks.
    """

    def __init__(self, db: UserDatabase) -> None:
        self._db = db
        self.query_log = query_log(db)
        self.route_hooks: list[RouteHook] = []
        take_common_hooks(self)
        self.counting = Counting()

    def run(self, execution: Execution) -> Cursor:
        """Run a statement and report it; returns the driver's cursor."""
        started = Clock.monotonic()
        try:
            cursor = run(execution)
        except Exception as exc:
            self._report(execution, started, exc)
            raise
        except BaseException as exc:  # interrupted or cancelled, which peewee tells none of its hooks
            if self.route_hooks or self.counting.in_use:
                self._report_route(execution, Clock.monotonic() - started, exc)
            raise
        self._report(execution, started, None)
        return cursor

    def run_transaction_statement(
        self, execution: Execution, send: Callable[[Callable[[], None]], None]
    ) -> None:
        """Run one of peewee's own statements, and report it to the route hooks if it was sent.

        Parameters:
            execution: the statement.
            send: sends it, and calls its argument just before.
        """
        started = Clock.monotonic()
        try:
            send(execution.sending)
        except Exception as exc:
            self._report_route(execution, Clock.monotonic() - started, exc)
            raise
        if execution.attempts:
            self._report_route(execution, Clock.monotonic() - started, None)

    def _report(self, execution: Execution, started: float, error: BaseException | None) -> None:
        log = self.query_log
        duration = Clock.monotonic() - started
        if self.route_hooks or self.counting.in_use:
            self._report_route(execution, duration, error)
        if log.query_hooks:
            # Last, because errors of these hooks reach the caller, as in peewee. peewee subtracts the start
            # from its own clock, which a test may have frozen, so pass a start relative to that clock.
            log._notify_hooks(execution.sql, execution.params, time.perf_counter() - duration, error)

    def _report_route(self, execution: Execution, duration: float, error: BaseException | None) -> None:
        event = execution.event(str(self._db.database), duration, error)
        self.counting.add(event)
        if self.route_hooks:
            tell_of_route(self.route_hooks, event)
