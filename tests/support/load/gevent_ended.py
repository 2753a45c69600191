"""A program under gevent that ends while its prober's first questions are still unanswered."""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys
from typing import Any

from gevent import sleep
from support.load.one_request import database, say, told

from peewee_replicas.nodes import interview as probes

SLOW = "SELECT SLEEP(600)"
_interview = probes.interview
_asked: list[str] = []


def _slowly(*arguments: Any) -> Any:
    _asked.append(SLOW)
    yield SLOW
    return (yield from _interview(*arguments))


def main() -> int:
    """Report once the prober waits for an answer, and end on request."""
    probes.interview = _slowly
    db = database()
    db.execute_sql("SELECT 1")
    db.close()
    while not _asked:
        sleep(0.001)
    say(asked=len(_asked))
    told()
    return 0


if __name__ == "__main__":
    sys.exit(main())
