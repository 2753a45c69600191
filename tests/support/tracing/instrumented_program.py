"""Runs one program on several database classes under a tracing tool; prints its spans' statements as JSON.

A process of its own, because tools patch drivers for the whole process.

Usage: python instrumented_program.py TOOL ORDER PARAMETERS

TOOL is opentelemetry or ddtrace, ORDER says whether the tool is set up "before" or "after" the import of
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


def use_tool() -> None:
    {"opentelemetry": opentelemetry, "ddtrace": ddtrace}[TOOL]()


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
    run()
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
