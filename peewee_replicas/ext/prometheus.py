"""Metrics of databases for Prometheus; they add up over processes with ``PROMETHEUS_MULTIPROC_DIR``."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence

from peewee import Proxy

from peewee_replicas.concurrency import Clock, new_lock
from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.databases.routed_members import members_of
from peewee_replicas.errors import ConfigurationError, importing_extra
from peewee_replicas.events import NodeEvent, RouteEvent
from peewee_replicas.nodes.cluster import PRIMARY
from peewee_replicas.statements.redaction import shown

from .middleware import resolved

with importing_extra("prometheus", "peewee_replicas.ext.prometheus"):
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

DURATIONS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histograms' buckets, in seconds."""

STATES = ("up", "ejected", "lagging", "unfit", "removed")
"""The states of a node that serves reads, as in `Replica.state`."""
PRIMARY_STATES = ("up", "down", "read_only")
"""The states of the primary, as in `NodeEvent.state`. Shown once one of them was reported."""
UNKNOWN_LAG = -1.0
"""The value of the lag's gauge while no process knows it."""

_REFRESH_SECONDS = 1.0
_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class Metrics:
    """The metrics in one registry, for all of its databases.

    Attributes:
        statements: executions, by database, node, role, kind and cause.
        errors: those that ended in an error.
        retries: attempts beyond each execution's first.
        duration: a histogram of their seconds.
        wait: a histogram of the seconds that reads waited for a replica to catch up, if they did.
        states: how many processes see each node in each state.
        lag: the largest lag of each node that a process knows, in seconds.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("database", "node", "role", "kind", "cause")
        self.statements = Counter(
            "peewee_replicas_statements", "Statements executed.", labels, registry=registry
        )
        self.errors = Counter(
            "peewee_replicas_errors", "Statements that ended in an error.", labels, registry=registry
        )
        self.retries = Counter(
            "peewee_replicas_retries", "Attempts beyond each statement's first.", labels, registry=registry
        )
        self.duration = Histogram(
            "peewee_replicas_statement_seconds",
            "Time from the decision to the first result.",
            ("database", "node", "role"),
            registry=registry,
            buckets=DURATIONS,
        )
        self.wait = Histogram(
            "peewee_replicas_wait_seconds",
            "Time that reads waited for replicas to catch up.",
            ("database", "node"),
            registry=registry,
            buckets=DURATIONS,
        )
        self.states = Gauge(
            "peewee_replicas_node_state",
            "Processes that see the node in this state.",
            ("database", "node", "state"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.lag = Gauge(
            "peewee_replicas_node_lag_seconds",
            "Largest known lag of the node; -1 if no process knows it.",
            ("database", "node"),
            registry=registry,
            multiprocess_mode="livemax",
        )


_made: weakref.WeakKeyDictionary[CollectorRegistry, Metrics] = weakref.WeakKeyDictionary()
_lock = new_lock()


def _metrics(registry: CollectorRegistry) -> Metrics:
    """Return the registry's metrics; a registry refuses a second metric of the same name."""
    with _lock:
        found = _made.get(registry)
        if found is None:
            found = _made[registry] = Metrics(registry)
        return found


class _Reporter:
    """Reports one database's events to the metrics of one registry."""

    def __init__(self, database: Replicated, metrics: Metrics, name: str | None) -> None:
        # Not the database itself: its hooks hold this object.
        self._members = weakref.ref(members_of(database))
        self.metrics = metrics
        self._name = name
        self._refreshed_at = -_REFRESH_SECONDS
        self._lock = new_lock()
        self._nodes: set[tuple[str, str]] = set()
        self._states: set[tuple[str, str, str]] = set()
        self._lags: set[tuple[str, str]] = set()
        self._ended = False

    def on_route(self, event: RouteEvent) -> None:
        """Count one execution."""
        metrics = self.metrics
        name = self._name or event.database
        if event.attempts or event.error is None:
            labels = (name, event.node, event.role, event.kind, event.cause)
            metrics.statements.labels(*labels).inc()
            metrics.duration.labels(name, event.node, event.role).observe(event.duration)
        else:
            labels = (name, "", event.role, event.kind, event.cause)  # no node was reached
        if event.error is not None:
            metrics.errors.labels(*labels).inc()
        if event.attempts > 1:
            metrics.retries.labels(*labels).inc(event.attempts - 1)
        if event.waited:
            metrics.wait.labels(name, event.node).observe(event.waited)
        now = Clock.monotonic()
        if now - self._refreshed_at >= _REFRESH_SECONDS:
            self._refreshed_at = now
            self.refresh(name)

    def on_node(self, event: NodeEvent) -> None:
        """Show a change of a node's state."""
        name = self._name or event.database
        if event.node == PRIMARY and event.state in PRIMARY_STATES:
            with self._lock:
                self._set_state(name, PRIMARY, event.state, PRIMARY_STATES)
        self.refresh(name)

    def on_round(self, database: str) -> None:
        """Show what the prober has found, also while no statement is executed."""
        self.refresh(self._name or database)

    def refresh(self, name: str) -> None:
        """Set the gauges to what this process knows now."""
        members = self._members()
        if members is None:
            return
        nodes = {(name, node.name): node for node in members.parts.cluster.replicas.all}
        with self._lock:
            for labels, node in nodes.items():
                self._set_state(*labels, node.state)
                self._set_lag(labels, node.lag)
            for labels in self._nodes - set(nodes):  # they stay, as processes may differ on who is removed
                self._set_state(*labels, "removed")
                self._set_lag(labels, None)
            self._nodes = set(nodes)

    def end(self) -> None:
        """Take what this process has shown out of the gauges, for good."""
        with self._lock:
            self._ended = True
            for state in self._states:
                _take_out(self.metrics.states, state, 0.0)
            for lag in self._lags:
                _take_out(self.metrics.lag, lag, UNKNOWN_LAG)

    def _set_state(self, name: str, node: str, state: str, states: Sequence[str] = STATES) -> None:
        for each in states if not self._ended else ():
            self._states.add((name, node, each))
            self.metrics.states.labels(name, node, each).set(each == state)

    def _set_lag(self, labels: tuple[str, str], lag: float | None) -> None:
        if not self._ended:  # another thread may be inside a hook that has been taken off
            self._lags.add(labels)
            self.metrics.lag.labels(*labels).set(UNKNOWN_LAG if lag is None else lag)


def _take_out(gauge: Gauge, labels: tuple[str, ...], nothing: float) -> None:
    gauge.labels(*labels).set(nothing)
    if not any(
        name in os.environ for name in _MULTIPROCESS
    ):  # the files that processes share keep each label set
        gauge.remove(*labels)


def instrument(database: object, *, registry: CollectorRegistry = REGISTRY, name: str | None = None) -> None:
    """Report a database's statements and nodes as metrics from now on; a second call changes nothing.

    With gunicorn's ``preload_app``, call it before or after the fork. Processes that share
    ``PROMETHEUS_MULTIPROC_DIR`` add up.

    Parameters:
        database: the database, its `on_primary`, or a proxy that has been initialized.
        registry: where the metrics are registered; each registry has its own.
        name: the value of the label ``database``; None: the schema's name. Give one if two databases in a
            process have the same.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(f"name={shown(name)}: a text or None is wanted")
    db = _checked(database)
    metrics = _metrics(registry)
    if not _reporters(db, metrics):
        reporter = _Reporter(db, metrics, name)
        db.route_hooks.append(reporter.on_route)
        db.node_hooks.append(reporter.on_node)
        members_of(db).parts.cluster.news.round_hooks.append(reporter.on_round)


def uninstrument(database: object, *, registry: CollectorRegistry = REGISTRY) -> None:
    """Stop reporting a database.

    What was counted stays, because counters never fall. The gauges' label sets of the database are removed;
    with ``PROMETHEUS_MULTIPROC_DIR`` nothing can be removed, and this process reports 0 for states and -1
    for lags.

    Parameters:
        database, registry: as for `instrument`.
    """
    db = _checked(database)
    for reporter in _reporters(db, _metrics(registry)):
        db.route_hooks.remove(reporter.on_route)
        if reporter.on_node in db.node_hooks:
            db.node_hooks.remove(reporter.on_node)
        rounds = members_of(db).parts.cluster.news.round_hooks
        if reporter.on_round in rounds:
            rounds.remove(reporter.on_round)
        reporter.end()


def _checked(database: object) -> Replicated:
    if not isinstance(database, Replicated | Proxy):
        raise ConfigurationError(
            f"database: a {type(database).__name__} is none of peewee_replicas' databases"
        )
    return resolved(database)


def _reporters(db: Replicated, metrics: Metrics) -> Sequence[_Reporter]:
    owners = (getattr(hook, "__self__", None) for hook in db.route_hooks)
    return [owner for owner in owners if isinstance(owner, _Reporter) and owner.metrics is metrics]
