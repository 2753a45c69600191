"""Runs one program on several database classes under a tracing tool; prints its spans' statements as JSON.

A process of its own, because tools patch drivers for the whole process.

Usage: python instrumented_program.py TOOL ORDER PARAMETERS

TOOL is a function of this program, ORDER says whether the tool is set up "before" or "after" the import of
peewee_replicas, and PARAMETERS are the connection parameters of the primary and of one replica, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import peewee
from playhouse.pool import PooledMySQLDatabase

TOOL, ORDER, PARAMETERS = sys.argv[1:]
found: list[str] = []


def begin() -> None:
    """Begin the transaction in which Elastic's and New Relic's agents record spans."""


def end() -> None:
    """End it."""


def opentelemetry() -> None:
    from opentelemetry.instrumentation.pymysql import PyMySQLInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Collect(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            for span in spans:
                text = span.attributes.get("db.statement") or span.attributes.get("db.query.text")
                found.append(str(text))
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Collect()))
    PyMySQLInstrumentor().instrument(tracer_provider=provider)


def ddtrace() -> None:
    for name in ("INSTRUMENTATION_TELEMETRY", "REMOTE_CONFIGURATION", "CRASHTRACKING"):
        os.environ[f"DD_{name}_ENABLED"] = "false"
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    class Collect(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            found.extend(str(span.resource) for span in trace)

    tracer.configure(trace_processors=[Collect()])
    patch(pymysql=True, aiomysql=True)


def elasticapm() -> None:
    import elasticapm

    class Client(elasticapm.Client):  # type: ignore[misc]
        def queue(self, event_type: str, data: Any, flush: bool = False) -> None:
            if event_type == "span" and data["type"] == "db":
                found.append(data["context"]["db"]["statement"])

    client = Client(
        service_name="test", enabled=True, disable_send=True, cloud_provider="none", central_config=False,
        metrics_interval="0s", span_compression_enabled=False, transaction_max_spans=1000,
    )  # fmt: skip
    elasticapm.instrument()
    globals()["begin"] = lambda: client.begin_transaction("test")
    globals()["end"] = lambda: client.end_transaction("test")


def newrelic() -> None:
    from newrelic import agent
    from newrelic.api.database_trace import DatabaseTrace

    # As after registering with New Relic's servers, which a test cannot do.
    settings = agent.global_settings()
    settings.developer_mode, settings.license_key, settings.app_name = True, "0" * 40, "test"
    agent.initialize()
    application = agent.register_application(timeout=10.0)
    finalize = DatabaseTrace.finalize_data

    def collect(trace: Any, *arguments: Any, **more: Any) -> Any:
        found.append(str(trace.sql))
        return finalize(trace, *arguments, **more)

    DatabaseTrace.finalize_data = collect
    tasks: list[Any] = []

    def start() -> None:
        tasks.append(agent.BackgroundTask(application, name="test"))
        tasks[-1].__enter__()

    globals()["begin"] = start
    globals()["end"] = lambda: tasks.pop().__exit__(None, None, None)


def use_tool() -> None:
    {"opentelemetry": opentelemetry, "ddtrace": ddtrace, "elasticapm": elasticapm, "newrelic": newrelic}[
        TOOL
    ]()


if ORDER == "before":
    use_tool()

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase  # noqa: E402
from peewee_replicas.aio import AsyncReplicatedDatabase  # noqa: E402

if ORDER == "after":
    use_tool()

from playhouse.pwasyncio import AsyncMySQLDatabase  # noqa: E402


class Thing(peewee.Model):
    name = peewee.CharField(unique=True)


def work(database: Any) -> None:
    """Statements of every way that peewee sends them, with errors among them."""
    with database.connection_context(), database.bind_ctx([Thing]):
        database.execute_sql("DELETE FROM thing")
        for _ in range(3):
            database.execute_sql("SELECT 1").fetchall()
        with database.atomic():
            Thing.create(name="a")
            with database.atomic():
                Thing.insert_many([{"name": "b"}, {"name": "c"}]).execute()
            assert Thing.select().count() == 3
        try:
            with database.atomic():
                Thing.create(name="a")
        except peewee.IntegrityError:
            pass
        cursor = database.cursor()
        cursor.execute("SELECT %s", (1,))
        cursor.executemany("UPDATE thing SET name = %s WHERE name = %s", [("d", "c"), ("e", "b")])
        assert {row.name for row in Thing.select()} == {"a", "d", "e"}


async def work_in_tasks(database: Any) -> None:
    """The same without cursors of its own, which the two asyncio classes do not share."""
    with database.bind_ctx([Thing]):
        async with database:
            await database.aexecute_sql("DELETE FROM thing")
            for _ in range(3):
                await database.aexecute_sql("SELECT 1")
            async with database.atomic():
                await database.aexecute(Thing.insert(name="a"))
                assert await database.count(Thing.select()) == 1
            try:
                async with database.atomic():
                    await database.aexecute(Thing.insert(name="a"))
            except peewee.IntegrityError:
                pass
        await database.close_pool()


def spans(run: Callable[[], None]) -> list[str]:
    found.clear()
    begin()
    run()
    end()
    return list(found)


def main() -> None:
    primary, replica = json.loads(PARAMETERS)
    name = primary.pop("database")
    routed = {**primary, "replicas": [replica], "consistency": "session"}
    setup = ReplicatedDatabase(name, **routed)
    with setup.connection_context(), setup.bind_ctx([Thing]):
        setup.create_tables([Thing])
    told = {
        "plain": spans(lambda: work(peewee.MySQLDatabase(name, **primary))),
        "ours": spans(lambda: work(ReplicatedDatabase(name, **routed))),
        "plain pooled": spans(lambda: work(PooledMySQLDatabase(name, **primary))),
        "ours pooled": spans(lambda: work(PooledReplicatedDatabase(name, **routed))),
        "plain asyncio": spans(lambda: asyncio.run(work_in_tasks(AsyncMySQLDatabase(name, **primary)))),
        "ours asyncio": spans(lambda: asyncio.run(work_in_tasks(AsyncReplicatedDatabase(name, **routed)))),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
