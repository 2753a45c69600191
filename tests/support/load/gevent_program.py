"""A program under gevent that serves as many requests as it is told. It patches before all other imports."""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc
import sys

from gevent import sleep
from gevent.pool import Pool
from support.load.one_request import Outcome, database, request, say, sockets, told


def main() -> int:
    """Serve requests in many greenlets at once, and count the sockets once all are idle."""
    db = database()
    outcome = Outcome()
    while (order := told()) is not None:
        if order.get("empty") and hasattr(db, "close_all"):
            db.close_all()
        if order.get("count") or order.get("empty"):
            gc.collect()
            say(sockets=sockets())
            continue
        pool = Pool(order["greenlets"])
        if order.get("warm"):
            for _ in range(order["requests"]):
                request(db)
            say(looked=db._parts.cluster.prober.looked.is_set())
            continue
        every = order["write_every"]
        for number in range(1, order["requests"] + 1):
            token = order["first"] + number if number % every == 0 else 0
            pool.spawn(outcome.serve, db, token)
            if number % 50 == 0:
                sleep(0)
        pool.join()
        states = {replica.name: replica.state for replica in db.replicas}
        say(done=outcome.done, errors=dict(outcome.errors), states=states, stats=db.stats())
    if hasattr(db, "close_all"):
        db.close_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
