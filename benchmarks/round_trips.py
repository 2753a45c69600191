"""What consistency costs where the network takes time, and how many reads the replicas keep.

Two tables per server. The first holds single statements against plain peewee on the same wire, statement by
statement in turn: a relay delays each direction by half of the round trip. The second lets one program mix
reads and writes over a replica that receives everything late.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peewee import IntegerField, Model, MySQLDatabase

from peewee_replicas.testing import LocalCluster

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.relay import Relay, replicate_through

ROWS = 100
# Long enough for a replica on the same machine to apply one write.
APPLIED_SECONDS = 0.03


class Row(Model):
    """What is read and written."""

    n = IntegerField()


def on(database: Any) -> Any:
    """The model on one database."""

    class Bound(Row):
        class Meta:
            table_name = "row"

    Bound.bind(database)
    return Bound


def milliseconds(work: Callable[[], Any]) -> float:
    """How long it took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


class Wire:
    """A cluster whose nodes are reached through relays."""

    def __init__(self, cluster: LocalCluster, primary: Relay, replica: Relay) -> None:
        self.cluster = cluster
        self.primary = primary
        self.replica = replica

    def plain(self, relay: Relay) -> Any:
        """peewee's own database."""
        parameters = {**self.cluster.parameters("primary"), "port": relay.port, "ssl_disabled": True}
        return MySQLDatabase(**parameters)

    def routed(self, **options: Any) -> Any:
        """The same over all nodes."""
        replicas = [{"name": "replica-1", "host": "127.0.0.1", "port": self.replica.port}]
        return self.cluster.database(
            host="127.0.0.1", port=self.primary.port, replicas=replicas, ssl_disabled=True, **options
        )


def statements(wire: Wire, rounds: int) -> list[tuple[str, float, float]]:
    """Name, median of plain peewee and median of this package, in milliseconds."""
    plain_writer, plain_reader = wire.plain(wire.primary), wire.plain(wire.replica)
    writes, reads = on(plain_writer), on(plain_reader)
    routed = wire.routed()
    both = on(routed)
    taken: dict[str, tuple[list[float], list[float]]] = {}
    values = itertools.count(1)

    def pair(name: str, theirs: Callable[[], Any], ours: Callable[[], Any]) -> None:
        lists = taken.setdefault(name, ([], []))
        lists[0].append(milliseconds(theirs))
        lists[1].append(milliseconds(ours))

    for database in (plain_writer, plain_reader):
        database.connect()
    both.update(n=0).execute()
    both.get_by_id(1)
    for number in range(rounds):
        key = number % ROWS + 1

        def write(model: Any, key: int = key) -> Any:
            return model.update(n=next(values)).where(model.id == key).execute()  # never a no-op

        def read(model: Any, key: int = key) -> Any:
            return model.get_by_id(key)

        pair("write", lambda: write(writes), lambda: write(both))
        # Whatever the replica needs to apply it, the read waits for.
        pair("read at once after it", lambda: read(reads), lambda: read(both))
        write(both)
        time.sleep(APPLIED_SECONDS)
        # The replica has it by now, but that is still to be heard from it: wait and read in one send.
        pair("first read, replica is there", lambda: read(reads), lambda: read(both))
        pair("read, replica known to be there", lambda: read(reads), lambda: read(both))
    for database in (plain_writer, plain_reader, routed):
        database.close()
    return [(name, *map(statistics.median, lists)) for name, lists in taken.items()]


def share(wire: Wire, writes: float, operations: int, **options: Any) -> dict[str, float]:
    """What became of the reads of a program of which so many statements are writes."""
    routed = wire.routed(**options)
    model = on(routed)
    chance = random.Random(7)
    model.update(n=0).execute()
    wire.cluster.sync()
    model.get_by_id(1)
    before = routed.stats()
    reads, waited = 0, []
    for number in range(operations):
        key = chance.randint(1, ROWS)
        if chance.random() < writes:
            model.update(n=number + 1).where(model.id == key).execute()
        else:
            reads += 1
            waited.append(milliseconds(lambda key=key: model.get_by_id(key)))
    after = routed.stats()
    routed.close()
    moved = {name: after[name] - before[name] for name in ("replicas", "waits", "fallbacks")}
    return {
        "reads": reads,
        "replica": 1 - moved["fallbacks"] / reads,
        "at once": 1 - moved["waits"] / reads,
        "median": statistics.median(waited),
        "p95": statistics.quantiles(waited, n=20)[-1],
    }


def run(server: Any, rounds: int, operations: int, round_trip: float, late: float) -> None:
    """Measure one server, and print."""
    half = round_trip / 2000
    with LocalCluster(replicas=1, server=server) as cluster:
        database = cluster.database()
        model = on(database)
        database.create_tables([model])
        model.insert_many([{"n": n} for n in range(ROWS)]).execute()
        database.close()
        cluster.sync()
        ports = [node.port for node in cluster.nodes]
        with (
            Relay(ports[0], to_server=half, to_client=half) as primary,
            Relay(ports[1], to_server=half, to_client=half) as replica,
        ):
            wire = Wire(cluster, primary, replica)
            print(f"\n{server} {cluster.version}, {round_trip:g} ms round trip, medians of {rounds} in ms")
            print(f"{'':34} plain   routed  ratio")
            for name, plain, routed in statements(wire, rounds):
                print(f"{name:34} {plain:6.2f}  {routed:6.2f}  {routed / plain:5.2f}")
        with (
            Relay(ports[0]) as primary,
            Relay(ports[1]) as replica,
            Relay(ports[0], to_client=late / 1000) as replication,
        ):
            wire = Wire(cluster, primary, replica)
            replicate_through(replication, cluster)
            print(f"\n{server} {cluster.version}, replica {late:g} ms behind, {operations} statements")
            print("writes  catch_up_timeout  by the replica  without a wait  read: median ms  95th")
            for writes in (0.05, 0.2, 0.5):
                for timeout in (0.5, 0.0):
                    found = share(wire, writes, operations, catch_up_timeout=timeout)
                    print(
                        f"{writes:6.0%}  {timeout:16}  {found['replica']:14.1%}  {found['at once']:14.1%}"
                        f"  {found['median']:15.2f}  {found['p95']:5.1f}"
                    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), action="append")
    parser.add_argument("--rounds", type=int, default=400, help="statements of each kind")
    parser.add_argument("--operations", type=int, default=2000, help="statements of each mix")
    parser.add_argument("--round-trip", type=float, default=2.0, help="milliseconds")
    parser.add_argument("--late", type=float, default=20.0, help="milliseconds")
    options = parser.parse_args()
    for server in options.server or ("mariadb", "mysql"):
        run(server, options.rounds, options.operations, options.round_trip, options.late)


if __name__ == "__main__":
    main()
