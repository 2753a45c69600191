"""A worker of jobs, as a user would write it; run by huey's consumer. Run by itself, it queues jobs."""

from __future__ import annotations

import json
import os
from typing import Any

from huey import SqliteHuey
from support.webapps.settings import SETTINGS, database
from support.webapps.tables import Slot

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.ext.jobs import in_session

db = database(ReplicatedDatabase)
Slot.bind(db)
huey = SqliteHuey(filename=SETTINGS["queue"])


@huey.task()
@in_session(db)
def look(name: str) -> Any:
    """The row's value as the worker sees it."""
    with db.connection_context():
        return Slot.get(Slot.name == name).n, os.getpid()


def queue_jobs(count: int) -> dict[str, Any]:
    """Repeatedly write, queue a job that reads, and wait for what it saw."""
    stale, pids = 0, set()
    for n in range(1, count + 1):
        Slot.update(n=n).where(Slot.name == "a").execute()
        job = look("a", bookmark=db.bookmark()) if SETTINGS["carried"] else look("a")
        found, pid = job.get(blocking=True, timeout=60)
        stale += found != n
        pids.add(pid)
    return {"jobs": count, "stale": stale, "workers": len(pids)}


if __name__ == "__main__":
    from support.webapps.huey_app import queue_jobs

    print(json.dumps(queue_jobs(SETTINGS["jobs"])))
