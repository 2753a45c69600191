"""Why MySQL's "now" is `gtid_owned` and `gtid_executed` together, shown on the losers of one key.

Threads insert the same key, and each loser then asks the primary how far it has come, as a read after a
failed write does. The answer must hold the winner's transaction, whose row made the loser fail. MySQL frees
a row's lock before it raises `gtid_executed`, for a whole group of commits at once; others commit meanwhile,
which makes the groups large. Both forms of the position are taken from one answer; the second is the
negative control.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql

from peewee_replicas.positions import MySQLPosition
from peewee_replicas.servers import mysql
from peewee_replicas.servers.dialects import dialect_of
from peewee_replicas.servers.wire.connection import Connection
from peewee_replicas.testing import LocalCluster

ROUNDS = 200


def fight(connections: list[Connection], prefix: str) -> list[tuple[str, Any]]:
    """Per loser, the winner's GTID and what the primary answered."""
    barrier = threading.Barrier(len(connections), timeout=60)
    winners: dict[str, str] = {}

    def work(conn: Connection) -> list[tuple[str, Any]]:
        answers = []
        for turn in range(ROUNDS):
            key = f"{prefix} {turn}"
            barrier.wait()
            try:
                conn.cursor().execute("INSERT INTO fight VALUES (%s)", (key,))
                winners[key] = "" if conn.position is None else conn.position.text()
            except pymysql.err.IntegrityError:
                answers.append((key, conn.ask(conn.dialect.NOW)[0]))
        return answers

    with ThreadPoolExecutor(len(connections)) as pool:
        found = [answer for answers in pool.map(work, connections) for answer in answers]
    return [(winners[key], answer) for key, answer in found]


def commit(parameters: dict[str, Any]) -> None:
    """Commit without end, on several connections."""

    def work() -> None:
        cursor = pymysql.connect(**parameters, autocommit=True).cursor()
        while True:
            cursor.execute("INSERT INTO noise VALUES ()")

    for _ in range(6):
        threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()


def main() -> None:
    """Fight, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mysql")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    asked = missed = missed_alone = 0
    with LocalCluster(replicas=0, server=options.server) as cluster:
        parameters = cluster.parameters("primary")
        connections = [Connection(**parameters, autocommit=True) for _ in range(options.threads)]
        first = connections[0]
        first.cursor().execute("CREATE TABLE fight (name VARCHAR(64) PRIMARY KEY)")
        first.cursor().execute("CREATE TABLE noise (id BIGINT PRIMARY KEY AUTO_INCREMENT)")
        dialect = dialect_of(first.server_version)
        noise = [multiprocessing.Process(target=commit, args=(parameters,), daemon=True) for _ in range(2)]
        for process in noise:
            process.start()
        until = time.monotonic() + options.seconds
        turn = 0
        while time.monotonic() < until:
            turn += 1
            for winner, answer in fight(connections, str(turn)):
                needed, now = dialect.position(winner), dialect.now(answer)
                asked += 1
                missed += now is None or not now.covers(needed)
                if dialect is mysql:
                    missed_alone += not MySQLPosition.parse(answer[1]).covers(needed)
        for process in noise:
            process.terminate()
            process.join()
        for conn in connections:
            conn.close()
    print(f"{options.server} {cluster.version}: {asked} losers asked the primary how far it has come")
    print(f"the answer lacked the winner's transaction: {missed}")
    if options.server == "mysql":
        print(f"gtid_executed alone lacked it: {missed_alone}")


if __name__ == "__main__":
    main()
