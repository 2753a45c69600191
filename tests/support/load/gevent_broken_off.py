"""A program under gevent whose greenlets are killed, or run into a timeout, at any moment of a statement."""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc
import random
import sys
from contextlib import suppress
from typing import Any

import gevent
import peewee
from support.load.one_request import database, say, sockets, told

MARK = "SELECT %s"


class Work:
    """Statements whose answers can be told apart, and of which some are interrupted."""

    def __init__(self, seed: int) -> None:
        self.db = database()
        self.chance = random.Random(seed)
        self.wrong: list[str] = []
        self.hit = 0

    def read(self) -> None:
        """Read once, and check that the answer belongs to that read."""
        mark = self.chance.randrange(1 << 40)
        sql = MARK if self.chance.random() < 0.8 else f"{MARK} FROM (SELECT SLEEP(0.05)) AS late"
        found = self.db.execute_sql(sql, (mark,)).fetchone()
        if found != (mark,):
            self.wrong.append(f"{found} instead of {mark}")

    def request(self) -> None:
        """Read by plain routing, in a scope and on the primary, as one request does."""
        with self.db.connection_context():
            self.read()
            with self.db.readonly():
                self.read()
            with self.db.primary():
                self.read()

    def broken_off(self) -> None:
        """Run a request that a timeout interrupts, then a whole one in the same greenlet."""
        try:
            with gevent.Timeout(self.chance.uniform(0.0001, 0.03)):
                self.request()
        except gevent.Timeout:
            self.hit += 1
        except peewee.PeeweeException as exc:
            self.wrong.append(f"{type(exc).__name__}: {exc}")
        if not self.db.is_closed():
            self.db.close()
        self.request()

    def killed(self) -> None:
        """Run a request in a greenlet that another one kills."""
        greenlet = gevent.spawn(self.request)
        gevent.sleep(self.chance.uniform(0.0, 0.03))
        if not greenlet.dead:
            self.hit += 1
        greenlet.kill()
        with suppress(peewee.PeeweeException):
            greenlet.get()

    def in_flight(self) -> int:
        """The number of reads that count as in flight."""
        core: Any = self.db._parts.cluster
        return sum(replica.in_flight for replica in (*core.replicas.all, core.reader))


def main() -> int:
    """Interrupt as many statements as ordered, in five greenlets at a time."""
    work: Work | None = None
    while (order := told()) is not None:
        if order.get("close"):
            if work is not None and hasattr(work.db, "close_all"):
                work.db.close_all()
            work = None
            gc.collect()
            gevent.sleep(0.1)
            gc.collect()
            say(sockets=sockets())
            continue
        before = sockets()
        work = Work(order["seed"])
        for _ in range(order["times"] // 5):
            greenlets = [gevent.spawn(work.killed if n % 2 else work.broken_off) for n in range(5)]
            gevent.joinall(greenlets, raise_error=True)
        for _ in range(10):
            work.request()
        say(wrong=work.wrong[:5], hit=work.hit, in_flight=work.in_flight(), sockets_before=before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
