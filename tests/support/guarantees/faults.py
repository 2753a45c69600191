"""Faults while sessions work: replicas stop, hang and crash, and connections are killed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pymysql

_USERS = "SELECT id FROM information_schema.processlist WHERE user = %s"


class Faults:
    """Threads that disturb a cluster until they are told to stop, and leave it whole.

    Parameters:
        cluster: the cluster.
        kinds: which of ``freeze``, ``pause``, ``crash``, ``delay`` befall replicas, with their weights.
        kill_every: seconds between two killed connections, on average; 0: none is killed.
        quiet: seconds between two faults of one replica, on average.
        seed: of the choices; when they fall is the machine's.

    Attributes:
        done: how often each happened.
        errors: what a fault itself failed with.
    """

    def __init__(
        self, cluster: Any, kinds: dict[str, float], *, kill_every: float, quiet: float, seed: object
    ) -> None:
        self.cluster = cluster
        self.kinds = kinds
        self.kill_every = kill_every
        self.quiet = quiet
        self.done: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        # Nobody else is to talk to a node that is down: the driver leaks the socket of a refused connection.
        self._away = {node.name: threading.Lock() for node in cluster.nodes}
        works: list[Callable[[random.Random], None]] = [
            lambda chance, node=node: self._disturb(node, chance)  # type: ignore[misc]
            for node in cluster.replicas
        ]
        if kill_every:
            works.append(self._kill_connections)
        self._threads = [
            threading.Thread(target=self._guarded, args=(work, random.Random(f"{seed} {number}")))
            for number, work in enumerate(works)
        ]

    def __enter__(self) -> Faults:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            work(chance)
        except BaseException as exc:
            self.errors.append(exc)

    def _rest(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    def _disturb(self, node: Any, chance: random.Random) -> None:
        kinds, weights = list(self.kinds), list(self.kinds.values())
        while not self._rest(chance.expovariate(1 / self.quiet)):
            kind = chance.choices(kinds, weights)[0]
            try:
                getattr(self, f"_{kind}")(node, chance)
            finally:
                node.resume()
                node.start()
                node.thaw()
            self.done[kind] += 1

    def _freeze(self, node: Any, chance: random.Random) -> None:
        node.freeze()
        self._rest(chance.uniform(0.02, 0.9))
        node.thaw()

    def _pause(self, node: Any, chance: random.Random) -> None:
        with self._away[node.name]:
            node.pause()
            self._rest(chance.uniform(0.02, 0.5))
            node.resume()

    def _crash(self, node: Any, chance: random.Random) -> None:
        with self._away[node.name]:
            node.kill()
            self._rest(chance.uniform(0.0, 0.5))
            node.start()

    def _delay(self, node: Any, chance: random.Random) -> None:
        node.delay(1)
        self._rest(chance.uniform(0.5, 2.0))
        node.delay(0)

    def _kill_connections(self, chance: random.Random) -> None:
        while not self._rest(chance.expovariate(1 / self.kill_every)):
            node = chance.choice(self.cluster.nodes)
            with self._away[node.name], suppress(pymysql.err.MySQLError):  # the session may be gone by now
                sessions = node.execute(_USERS, (self.cluster.user,))
                if sessions:
                    node.execute("KILL %s", chance.choice(sessions))
                    self.done[f"killed connection of {node.role}"] += 1
