"""Jobs that carry a bookmark through a queue to a worker, while the replica is a second late."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.clusters import own_cluster
from support.waiting import until
from support.webapps.pairs import described, webapp_table
from support.webapps.serving import program
from support.webapps.tables import Slot

from peewee_replicas import ReplicatedDatabaseProxy, bookmarks
from peewee_replicas.ext.jobs import in_session
from peewee_replicas.scopes.frames import causal

CONSUMER = ["-m", "huey.bin.huey_consumer", "support.webapps.huey_app.huey", "--workers=2", "--delay=0.05"]


def queued(cluster: Any, folder: Path, *, carried: bool, jobs: int) -> dict[str, Any]:
    """What the jobs saw, as the program that queued them tells."""
    database = {**described(cluster), "catch_up_timeout": 0.1, "probe_interval": None}
    settings = {
        "database": database,
        "queue": str(folder / f"{carried}.db"),
        "carried": carried,
        "jobs": jobs,
    }
    with (
        program([*CONSUMER, "--worker-type=process", "--max-delay=0.1"], settings) as worker,
        program(["-m", "support.webapps.huey_app"], settings) as producer,
    ):
        until(lambda: producer.read_text().endswith("\n") or "Traceback" in worker.read_text(), 90)
        said = producer.read_text()
        assert said.startswith("{"), said + worker.read_text()
        found: dict[str, Any] = json.loads(said)
        return found


def test_a_worker_of_jobs_sees_what_was_written_before(server: str, tmp_path: Path) -> None:
    with own_cluster(server, 1) as cluster:
        webapp_table(cluster)
        cluster.replicas[0].delay(1)
        carried = queued(cluster, tmp_path, carried=True, jobs=6)
        plain = queued(cluster, tmp_path, carried=False, jobs=6)
    assert (carried["jobs"], carried["stale"]) == (6, 0)
    assert plain["stale"] >= 4


# In one process


def test_a_job_of_each_kind_takes_a_bookmark_and_keeps_nothing(cluster: Any, db: Any) -> None:
    proxy = ReplicatedDatabaseProxy()

    def seen() -> tuple[Any, str]:
        frame = causal(db._parts.cluster)
        assert frame is not None
        return frame.session.seen, db.explain_route("SELECT 1").role

    @in_session(proxy)
    def plain(*args: int, **named: int) -> Any:
        return seen(), args, named

    @in_session(proxy)
    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return seen()

    @in_session(proxy)
    def generator() -> Any:
        yield seen()

    proxy.initialize(db)
    assert plain.__name__ == "plain"
    assert inspect.iscoroutinefunction(coroutine)
    db._parts.consistency.own_session().owe()  # of an earlier job
    with db.causal_session():
        Slot.bind(db)
        db.create_tables([Slot], safe=True)
        mark = db.bookmark()
    position = db._members.scopes.position_of(mark)
    assert plain(1, bookmark=mark, n=2) == ((position, "replica"), (1,), {"n": 2})
    assert asyncio.run(coroutine(bookmark=mark)) == (position, "replica")
    assert list(generator(bookmark=mark)) == [(position, "replica")]
    assert plain() == ((None, "replica"), (), {})
    assert causal(db._parts.cluster) is None


def test_an_invalid_bookmark_makes_the_job_read_on_the_primary(
    db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @in_session(db)
    def job() -> str:
        role: str = db.explain_route("SELECT 1").role
        return role

    with db.causal_session():
        db.execute_sql("UPDATE item SET n = 1 WHERE n = 0")
        mark = db.bookmark()
    old = bookmarks.decode(mark, time.time(), 60)._replace(issued=time.time() - 2 * 24 * 3600)
    assert [job(bookmark=bookmarks.encode(*old)), job(bookmark="damaged"), job(bookmark=mark), job()] == [
        "primary",
        "primary",
        "replica",
        "replica",
    ]
    assert [record.levelname for record in caplog.records if "a job" in record.getMessage()] == [
        "WARNING"
    ] * 2
