"""Why MySQL's "now" is `gtid_owned` and `gtid_executed` together: losers of a key that look for the winner.

Threads insert the same key; each loser then reads it from a replica, as `get_or_create()` does. MySQL frees a
row's lock before it raises `gtid_executed`, for a whole group of commits at once, so a loser that asks for that
alone can miss the winner's row. Others commit meanwhile, which makes the groups large. Both forms of the
question take turns on the same servers, and the second is the negative control.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql
from peewee import CharField, IntegrityError, Model

from peewee_replicas.positions import MySQLPosition
from peewee_replicas.servers import mysql
from peewee_replicas.testing import LocalCluster

UNITED, EXECUTED = "owned and executed", "executed alone"


class Key(Model):
    """What is fought for."""

    name = CharField(unique=True)


def executed_alone(row: tuple[Any, ...]) -> MySQLPosition | None:
    """The position without what is being committed."""
    return MySQLPosition.parse(row[1] or "")


def fight(database: Any, threads: int, rounds: int, prefix: str) -> tuple[int, int]:
    """How many lost, and how many of them did not find the winner's row."""
    barrier = threading.Barrier(threads, timeout=60)

    def work(_: int) -> tuple[int, int]:
        lost = missed = 0
        with database.connection_context():
            for turn in range(rounds):
                name = f"{prefix} {turn}"
                barrier.wait()
                try:
                    Key.create(name=name)
                except IntegrityError:
                    lost += 1
                    missed += not Key.select().where(Key.name == name).exists()
        return lost, missed

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(work, range(threads)))
    return sum(lost for lost, _ in found), sum(missed for _, missed in found)


def commit(parameters: dict[str, Any]) -> None:
    """Commit without end, on several connections."""

    def work() -> None:
        conn = pymysql.connect(**parameters, autocommit=True)
        cursor = conn.cursor()
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
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    united = mysql.now
    forms = {UNITED: united, EXECUTED: executed_alone} if options.server == "mysql" else {UNITED: united}
    totals = {form: [0, 0] for form in forms}
    grouped = {"primary": {"binlog_group_commit_sync_delay": 1000}} if options.server == "mysql" else {}
    with LocalCluster(replicas=1, server=options.server, options=grouped) as cluster:
        database = cluster.database(catch_up_timeout=30.0)
        Key.bind(database)
        database.create_tables([Key])
        database.execute_sql("CREATE TABLE noise (id BIGINT PRIMARY KEY AUTO_INCREMENT)")
        database.close()
        until = time.monotonic() + options.seconds
        turn = 0
        noise = [
            multiprocessing.Process(target=commit, args=(cluster.parameters("primary"),)) for _ in "1234"
        ]
        for process in noise:
            process.start()
        while time.monotonic() < until:
            turn += 1
            for form, now in forms.items():
                mysql.now = now
                for place, number in enumerate(fight(database, options.threads, 50, f"{form} {turn}")):
                    totals[form][place] += number
        for process in noise:
            process.terminate()
            process.join()
    mysql.now = united
    print(f"{options.server} {cluster.version}: losers of a key that look for the winner on a replica")
    for form, (lost, missed) in totals.items():
        print(f"{form:20} {lost:7} lost, {missed:4} did not find it")


if __name__ == "__main__":
    main()
