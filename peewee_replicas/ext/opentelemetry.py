"""Spans and metrics of OpenTelemetry for the statements of all databases of this package's classes.

They follow the stable semantic conventions for databases, and have attributes of this package's own under
``peewee_replicas.``. Parameters are never recorded.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import metadata

from peewee_replicas.concurrency import Clock
from peewee_replicas.databases.common_hooks import add_common_hook, remove_common_hook
from peewee_replicas.errors import importing_extra
from peewee_replicas.events import RouteEvent
from peewee_replicas.statements.redaction import redacted
from peewee_replicas.statements.tokens import first_word

with importing_extra("opentelemetry", "peewee_replicas.ext.opentelemetry"):
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled
    from opentelemetry.metrics import Histogram, MeterProvider, get_meter
    from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, TracerProvider, get_tracer

_NAME = "peewee_replicas"
_SCHEMA = "https://opentelemetry.io/schemas/1.33.0"  # where the conventions for databases became stable
_LONGEST_TEXT = 4096
# As the conventions advise for durations of database operations.
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

Attributes = dict[str, str | int | float | bool]


class ReplicasInstrumentor(BaseInstrumentor):
    """Reports the statements of every database of this package's classes, made before or after `instrument`.

    Each statement is a client span and a value of the metric ``db.client.operation.duration``. peewee's own
    ``BEGIN``, ``COMMIT`` and ``ROLLBACK`` are reported, what a raw cursor executes is not.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the packages that must be installed."""
        return ("peewee >= 3.17",)

    def _instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        **_options: object,
    ) -> None:
        version = _version()
        meter = get_meter(_NAME, version, meter_provider, schema_url=_SCHEMA)
        reporter = _Reporter(
            get_tracer(_NAME, version, tracer_provider, schema_url=_SCHEMA),
            meter.create_histogram(
                "db.client.operation.duration",
                unit="s",
                description="Duration of database client operations.",
                explicit_bucket_boundaries_advisory=_BUCKETS,
            ),
        )
        self._hook = reporter.report
        add_common_hook(self._hook)

    def _uninstrument(self, **_options: object) -> None:
        remove_common_hook(self._hook)


class _Reporter:
    """Turns events into spans and metrics."""

    def __init__(self, tracer: Tracer, durations: Histogram) -> None:
        self._tracer = tracer
        self._durations = durations

    def report(self, event: RouteEvent) -> None:
        """Report one execution that has just ended."""
        if not is_instrumentation_enabled():
            return
        ended = int(Clock.wall() * 1e9)
        common = _common(event)
        operation = common.get("db.operation.name", "")
        span = self._tracer.start_span(
            f"{operation} {event.database}".strip(),
            kind=SpanKind.CLIENT,
            attributes={**common, **_details(event)},
            start_time=ended - int(event.duration * 1e9),
        )
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(ended)
        self._durations.record(event.duration, common)


def _common(event: RouteEvent) -> Attributes:
    """Return the attributes of both the span and the metric; each has few different values."""
    found: Attributes = {
        "db.system.name": event.flavour or "mysql",  # no server has answered, and SQLite has none
        "db.namespace": event.database,
        "peewee_replicas.role": event.role,
        "peewee_replicas.node": event.node,
        "peewee_replicas.kind": event.kind,
    }
    operation = first_word(event.sql)
    if operation and event.kind != "unknown":  # any first word would be a value of its own
        found["db.operation.name"] = operation
    if event.flavour != "sqlite":
        found["server.address"] = event.address
        if event.port is not None:
            found["server.port"] = event.port
    if event.error_type is not None:
        number = event.error_number
        found["error.type"] = event.error_type if number is None else str(number)
        if number is not None:
            found["db.response.status_code"] = str(number)
    return found


def _details(event: RouteEvent) -> Attributes:
    found: Attributes = {
        "db.query.text": redacted(event.sql, _LONGEST_TEXT),
        "peewee_replicas.reason": event.reason,
        "peewee_replicas.attempts": event.attempts,
        "peewee_replicas.waited": event.waited,
    }
    if event.cause:
        found["peewee_replicas.cause"] = event.cause
    return found


def _version() -> str:
    try:
        return metadata.version(_NAME)
    except metadata.PackageNotFoundError:
        return ""  # run from its source
