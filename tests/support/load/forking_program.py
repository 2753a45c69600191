"""A parent that works with its database and forks short-lived workers, as Celery's prefork pool does."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from support.load.one_request import Outcome, database, say, sockets, told


def child(db: Any, requests: int, first: int, every: int) -> dict[str, Any]:
    """Run one worker, which ends its process by itself."""
    outcome = Outcome()
    for number in range(1, requests + 1):
        outcome.serve(db, first + number if number % every == 0 else 0)
    if hasattr(db, "close_all"):
        db.close_all()
    db.dispose()
    return {"done": outcome.done, "errors": dict(outcome.errors)}


def leave_open(db: Any) -> None:
    """Open connections to the primary and to replicas, which a child then inherits."""
    db.connect(reuse_if_open=True)
    for place in (db, db, db.on_primary):
        place.execute_sql("SELECT 1")


def fork(db: Any, requests: int, first: int, every: int) -> tuple[int, int]:
    """Fork a worker; its process id, and the pipe through which it reports."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        answer: dict[str, Any] = {"done": 0, "errors": {"the worker died": 1}}
        try:
            answer = child(db, requests, first, every)
        except BaseException as exc:
            answer = {"done": 0, "errors": {f"{type(exc).__name__}: {exc}": 1}}
        finally:
            with open(writing, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
    os.close(writing)
    return pid, reading


def main() -> int:
    """Fork generations of workers, and serve requests in the parent between them."""
    db = database()
    outcome = Outcome()
    while (order := told()) is not None:
        if order.get("count"):
            say(sockets=sockets())
            continue
        first = order["first"]
        for _ in range(order["generations"]):
            children = []
            for _ in range(order["workers"]):
                leave_open(db)
                children.append(fork(db, order["requests"], first, order["write_every"]))
                first += order["requests"] + 1
                outcome.serve(db, 0)
            for pid, reading in children:
                with open(reading) as pipe:
                    answer = json.load(pipe)
                os.waitpid(pid, 0)
                outcome.done += answer["done"]
                outcome.errors.update(answer["errors"])
            for _ in range(10):
                outcome.serve(db, 0)
        say(done=outcome.done, errors=dict(outcome.errors))
    if hasattr(db, "close_all"):
        db.close_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
