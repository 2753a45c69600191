"""Posts to one worker process and then gets from another, and counts stale answers."""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

from support.webapps.serving import serving
from support.webapps.tables import Slot

from peewee_replicas.testing import LocalCluster

APPS = {
    "flask": ("gunicorn", "support.webapps.flask_app:app"),
    "fastapi": ("uvicorn", "support.webapps.fastapi_app:app"),
    "fastapi-asyncio": ("uvicorn", "support.webapps.fastapi_async_app:app"),
}


class Pairs(NamedTuple):
    """What was counted.

    Attributes:
        pairs: how many times the visitor posted and then got.
        stale: how many of these showed an older state than the one that was posted.
        workers: how many processes answered.
        from_replica: reads that the replica served.
        seconds: how long it took.
    """

    pairs: int
    stale: int
    workers: int
    from_replica: int
    seconds: float


def webapp_table(cluster: LocalCluster) -> None:
    """Create the programs' table with its row on all nodes."""
    database = cluster.database(consistency="eventual")
    with database.bind_ctx([Slot]), database.connection_context():
        database.create_tables([Slot])
        Slot.create(name="a")
    cluster.sync()


def described(cluster: LocalCluster) -> dict[str, Any]:
    """The arguments of a database over the cluster, to hand to another process."""
    replicas = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
    return {**cluster.parameters(cluster.primary), "replicas": replicas}


def count_pairs(
    cluster: LocalCluster,
    web: str,
    pairs: int,
    *,
    carried: bool,
    readonly: bool = False,
    prefix: str = "",
    pause: float = 0.0,
    **options: Any,
) -> Pairs:
    """Post to one worker and get from the other, so many times.

    Parameters:
        web: one of `APPS`.
        carried: with the middleware. Then the workers take turns in being posted to; without it, a worker
            that wrote before would itself know how late the replica is.
        readonly: GET inside ``readonly()``.
        prefix: of the paths.
        pause: seconds between two pairs.
        options: of the database.
    """
    settings = {"database": {**described(cluster), **options}, "carried": carried, "readonly": readonly}
    cookies: dict[str, str] = {}
    stale, seen, served = 0, set(), {}
    with serving(*APPS[web], settings) as workers:
        began = time.monotonic()
        for n in range(1, pairs + 1):
            one, other = workers if n % 2 or not carried else workers[::-1]
            seen.add(one.ask("POST", f"{prefix}/slot/{n}", cookies)["pid"])
            found = other.ask("GET", f"{prefix}/slot", cookies)
            seen.add(found["pid"])
            served[found["pid"]] = found["stats"]["replicas"]
            stale += found["n"] != n
            time.sleep(pause)
        seconds = time.monotonic() - began
    return Pairs(pairs, stale, len(seen), sum(served.values()), seconds)


def main() -> None:
    """Run a long series, from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--server", choices=["mariadb", "mysql"], default="mariadb")
    parser.add_argument("--web", choices=sorted(APPS), default="flask")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--readonly", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two pairs")
    given = parser.parse_args()
    with LocalCluster(replicas=1, server=given.server) as cluster:
        webapp_table(cluster)
        cluster.replicas[0].delay(1)
        for carried in (True, False):
            found = count_pairs(
                cluster,
                given.web,
                given.pairs,
                carried=carried,
                readonly=given.readonly,
                prefix=given.prefix,
                pause=given.pause,
                # The prober may keep a replica out of use until it knows how late that is.
                **({} if carried else {"probe_interval": None}),
            )
            print(f"{given.server} {given.web}{given.prefix} with the middleware: {carried}: {found}")


if __name__ == "__main__":
    main()
