"""Computes what clients did from a server's counters."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["primary", "replica"]

CLUSTER, REPLICATION = "cluster", "replication"
OTHERS = (CLUSTER, "event_scheduler")
"""The users whose statements and connections do not count: neither clients' nor replicas'."""

WRITES = (
    "Com_insert",
    "Com_insert_select",
    "Com_update",
    "Com_update_multi",
    "Com_delete",
    "Com_delete_multi",
    "Com_replace",
    "Com_replace_select",
    "Com_load",
)
"""The counters that make up ``Counts.writes``."""

# A server's global counters are always exact, but do not show who sent a statement: on a primary they
# include the queries of its replicas when they connect, on a replica the changes that it applies. The
# counters by user show who, but change only a moment after the answer. Each is used where it is reliable.
EXACT: dict[Role, tuple[str, ...]] = {
    "primary": ("Com_select", *WRITES, "Com_begin", "Com_commit", "Com_rollback"),
    "replica": ("Com_select",),
}
"""The counters to read from the global ones."""


@dataclass(frozen=True)
class Counts:
    """Statements that clients sent to one node, as the server counted them.

    They exclude what a replica applies from its primary, the replicas' own connections, the cluster's own
    statements, and those of ``ClusterNode.execute()``. A refused statement counts.
    """

    reads: int = 0
    """``SELECT``, ``TABLE`` and ``VALUES``, also those inside stored functions."""
    writes: int = 0
    """``INSERT``, ``UPDATE``, ``DELETE``, ``REPLACE``, ``LOAD DATA``."""
    begins: int = 0
    commits: int = 0
    connections: int = 0
    """Successful logins."""
    raw: Mapping[str, int] = field(default_factory=dict)
    """Every counter that changed: ``Connections``, and the server's own such as ``Com_call_procedure``."""


def summarise(moved: Mapping[str, int]) -> Counts:
    """Return the counts for these changes of counters."""
    return Counts(
        reads=moved.get("Com_select", 0),
        writes=sum(moved.get(name, 0) for name in WRITES),
        begins=moved.get("Com_begin", 0),
        commits=moved.get("Com_commit", 0),
        connections=moved.get("Connections", 0),
        raw={name: count for name, count in moved.items() if count},
    )


class SinceReset:
    """Computes, from a server's ever-growing counters, what clients did since the last reset.

    It subtracts what the cluster's own sessions did, and keeps the sum across restarts, which reset the
    server's counters to zero.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: Counter[str] = Counter()
        self._baseline: Counter[str] = Counter()
        self._carried: Counter[str] = Counter()
        self._latest: Counter[str] = Counter()

    def add_own(self, counted: Mapping[str, int]) -> None:
        """Add the counts of one of the cluster's own sessions, when it has ended."""
        with self._lock:
            self._own.update(counted)

    def reset(self, now: Mapping[str, int] | None) -> None:
        """Start counting from zero.

        Parameters:
            now: the server's counters; None if it cannot be asked.
        """
        with self._lock:
            if now is None:
                # It has not run since it was last asked, so the last known counters are still correct.
                self._baseline.update(self._latest)
                self._baseline.subtract(self._carried)
            else:
                self._baseline = Counter(now)
                self._baseline.subtract(self._own)
            self._carried = Counter()
            self._latest = Counter()

    def changes(self, now: Mapping[str, int] | None) -> Mapping[str, int]:
        """Return by how much clients have changed each counter; `now` as for `reset`."""
        with self._lock:
            if now is not None:
                self._latest = Counter(self._carried)
                self._latest.update(now)
                self._latest.subtract(self._own)
                self._latest.subtract(self._baseline)
            return dict(self._latest)

    def server_started(self) -> None:
        """Note that the server has restarted, and its counters with it."""
        with self._lock:
            self._carried = Counter(self._latest)
            self._own = Counter()
            self._baseline = Counter()


SESSION_COUNTERS = "SHOW SESSION STATUS LIKE 'Com\\_%'"


def exact_counters(role: Role, scope: Literal["GLOBAL", "SESSION"]) -> str:
    """Return the query for the counters in ``EXACT``; there are 150 more, which take long to read."""
    return f"SHOW {scope} STATUS WHERE Variable_name IN {EXACT[role]!r}".replace(",)", ")")


STATEMENTS_BY_USER = (
    "SELECT user, event_name, count_star "
    "FROM performance_schema.events_statements_summary_by_user_by_event_name "
    "WHERE user IN %s AND event_name LIKE 'statement/sql/%%' AND count_star > 0"
)
"""Its parameter: the users."""
# Before a replica asks for the binary log it sends statements of its own, and each is counted globally
# a moment before it is counted for its user.
DUMPS = ("Binlog Dump", "Binlog Dump GTID")
CONNECTIONS_BY_USER = "SELECT user, total_connections FROM performance_schema.users WHERE user IS NOT NULL"


def combine(
    role: Role,
    every: Mapping[str, str],
    by_user: Iterable[tuple[str, str, int]],
    connections: Iterable[tuple[str, int]],
) -> dict[str, int]:
    """Return the counters of clients; those of ``EXACT`` include the cluster's own user.

    Parameters:
        every: the global counters of ``EXACT``.
        by_user: the counters of clients and of replicas.
    """
    counters: Counter[str] = Counter()
    replication: Counter[str] = Counter()
    for user, event, count in by_user:
        name = f"Com_{event.rpartition('/')[2]}"
        (replication if user == REPLICATION else counters)[name] += int(count)
    for name in EXACT[role]:
        counters[name] = int(every[name]) - replication[name]
    clients = (int(count) for user, count in connections if user not in (REPLICATION, *OTHERS))
    counters["Connections"] = sum(clients)
    return dict(counters)
