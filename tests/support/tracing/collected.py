"""What `ReplicasInstrumentor` reports, collected in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from peewee_replicas.ext.opentelemetry import ReplicasInstrumentor


class Collected:
    """Spans and metrics, and a tracer for the program's own spans."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])
        self.tracer = self.tracer_provider.get_tracer("program")

    def spans(self) -> list[Any]:
        """The spans that have ended since the last call."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def metrics(self) -> list[Any]:
        """The metrics until now."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            one
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for one in scope.metrics
        ]


@contextmanager
def instrumented() -> Iterator[Collected]:
    """Instrument all databases during the block."""
    found = Collected()
    instrumentor = ReplicasInstrumentor()
    instrumentor.instrument(tracer_provider=found.tracer_provider, meter_provider=found.meter_provider)
    try:
        yield found
    finally:
        instrumentor.uninstrument()
