"""One peer in a process of its own: it is told by lines of JSON what to do, and answers by lines of JSON."""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import statistics
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any

from . import timing
from .peers.base import Program, Site


class Worker:
    """The work that can be asked of a peer."""

    def __init__(self, module: str, site: Site) -> None:
        self.site = site
        self.module: Any = importlib.import_module(f".peers.{module}", __package__)
        self._routed: Program | None = None

    @property
    def routed(self) -> Program:
        """The routed form, made at first need."""
        if self._routed is None:
            self._routed = self.module.routed(self.site)
        return self._routed

    def about(self) -> dict[str, Any]:
        """What it is, and in which versions."""
        from importlib.metadata import version

        return {
            "name": self.module.NAME,
            "form": self.module.FORM,
            "documentation": self.module.DOCUMENTATION,
            "versions": {name: version(name) for name in self.module.PACKAGES},
        }

    def overhead(self, number: int, reads: int, seconds: float) -> dict[str, Any]:
        """The routed form against the plain one, in paired rounds."""
        plain = self.module.plain(self.site)
        keys = range(self.site.first, self.site.last + 1)
        for program in (plain, self.routed):
            program.visit_read(keys[0])

        def work(program: Program) -> timing.Work:
            def run() -> None:
                for turn in range(reads):
                    program.read(keys[turn % len(keys)])

            return run

        until = time.monotonic() + seconds
        taken = timing.rounds({"plain": work(plain), "routed": work(self.routed)}, number, until=until)
        plain.close()
        found: dict[str, Any] = timing.ratios(taken, {"routed": "plain"}, reads)["routed"]
        return found

    def mix(self, operations: int, each: int, writes: float) -> dict[str, Any]:
        """Requests of which so many write, by users who make a few each; who served the reads."""
        chance, keys = random.Random(7), range(self.site.first, self.site.last + 1)
        nodes: dict[int, int] = {}
        for number in range(operations):
            key = chance.choice(keys)
            self._turn(number, each)
            if chance.random() < writes:
                self.routed.visit_write(key, number + 1)
            else:
                node = self.routed.visit_read(key).node
                nodes[node] = nodes.get(node, 0) + 1
        self.routed.user = 0
        return {"nodes": nodes}

    def _turn(self, number: int, each: int) -> None:
        """Another user after so many requests, on other connections: a proxy is to have a choice, too."""
        if number and number % each == 0:
            self.routed.close()
        self.routed.user = 1 + number // each

    def stale(self, pairs: int, seconds: float) -> dict[str, Any]:
        """Requests that read what the same user's request before them has written."""
        until, wrong, replicas, taken = time.monotonic() + seconds, 0, 0, []
        unseen = int(time.monotonic() * 1000) % 10**9
        for number in range(pairs):
            self._turn(number, 5)
            key = self.site.first + number % (self.site.last - self.site.first + 1)
            # One read in each turn: with two, a round robin over two replicas would always bring the same
            # one to the read that counts.
            n = unseen + number
            self.routed.visit_write(key, n)
            began = time.perf_counter()
            answer = self.routed.visit_read(key)
            taken.append((time.perf_counter() - began) * 1000)
            wrong += answer.n != n
            replicas += answer.node > 0
            if time.monotonic() > until:
                break
        self.routed.user = 0
        return {
            "reads": len(taken),
            "stale": wrong,
            "by_replicas": replicas,
            "median_ms": statistics.median(taken),
            "longest_ms": max(taken),
        }

    def begin_anew(self) -> dict[str, Any]:
        """Close everything, and see that it works."""
        self.routed.close()
        return {"node": self.routed.visit_read(self.site.first).node}

    def load(self, begins: float, seconds: float, threads: int, every: float) -> dict[str, Any]:
        """Reads at an even pace by several threads; when each began, how long it took, whether it failed.

        They connect at once and begin at the time `begins` of `time.monotonic`, which all processes share.
        """
        reads: list[tuple[float, float, int]] = []
        errors: dict[str, int] = {}
        until = begins + seconds

        def run(number: int) -> None:
            chance = random.Random(number)
            for _ in range(2):
                with suppress(Exception):  # it will be met again
                    self.routed.visit_read(self.site.first)
            due = max(begins, time.monotonic()) + chance.random() * every
            while time.monotonic() < until:
                timing.wait_until(due)
                began = time.monotonic()
                due = max(due + every, began)
                try:
                    node = self.routed.visit_read(chance.randint(self.site.first, self.site.last)).node
                except Exception as exc:
                    node = -1
                    text = f"{type(exc).__name__}: {exc}"[:100]
                    errors[text] = errors.get(text, 0) + 1
                reads.append((began, time.monotonic() - began, node))

        workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"reads": reads, "errors": errors}


def main() -> None:
    """Serve until the other end is closed."""
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a peer prints is an answer
    module, site = sys.argv[1], Site.load(json.loads(sys.argv[2]))
    worker: Worker | None = None
    for line in sys.stdin:
        call = json.loads(line)
        try:
            worker = worker or Worker(module, site)
            answer = {"found": getattr(worker, call.pop("do"))(**call)}
        except Exception as exc:
            traceback.print_exc()
            answer = {"failed": f"{type(exc).__name__}: {exc}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # a peer's own threads are not waited for


if __name__ == "__main__":
    main()
