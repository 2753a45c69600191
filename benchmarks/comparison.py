"""Every peer on the same servers and rows: what it costs, what it keeps, and what a fault does to it."""

from __future__ import annotations

import dataclasses
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from . import haproxy as proxies
from .peers import MODULES
from .peers.base import Address, Site
from .plan import Plan
from .stage import late, stage
from .timing import wait_until

ROOT = Path(__file__).resolve().parents[1]
LATE_MS = (20, 1000)
# All peers open their connections at once, which takes two cores a while.
CONNECT_SECONDS = 3.0
MEET_SECONDS = 8.0


class Failed(Exception):
    """What a peer could not do, in its own words."""


class Peer:
    """A worker process, spoken to by lines of JSON."""

    def __init__(self, module: str, site: Site) -> None:
        command = [sys.executable, "-m", f"{__package__}.worker", module]
        self.process = subprocess.Popen(
            [*command, json.dumps(dataclasses.asdict(site))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, **arguments: Any) -> None:
        """Begin something."""
        assert self.process.stdin is not None
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
        except OSError as exc:
            raise Failed("its process has ended") from exc

    def answer(self, seconds: float) -> dict[str, Any]:
        """What came of it. Raises `Failed`."""
        try:
            line = self._answers.get(timeout=max(seconds, 0.1))
        except queue.Empty:
            self.process.kill()
            raise Failed(f"no answer within {seconds:.0f} s") from None
        if not line:
            raise Failed("its process has ended")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        found: dict[str, Any] = answer["found"]
        return found

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Begin something, and wait for what comes of it."""
        self.ask(do, **arguments)
        return self.answer(60)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


class Comparison:
    """One run over all peers; what is found is kept by peer and by step.

    Parameters:
        first: what was found on the first server, if this is another one.
    """

    def __init__(
        self,
        plan: Plan,
        cluster: Any,
        modules: tuple[str, ...] = MODULES,
        first: dict[str, Any] | None = None,
    ) -> None:
        self.plan = plan
        self.cluster = cluster
        self.modules = modules
        self.found: dict[str, Any] = {
            "server": f"{cluster.server} {cluster.version}",
            "haproxy": proxies.version(),
            "peers": {module: {"name": module} for module in modules},
        }
        self.all = self.found if first is None else first
        if first is not None:
            first.setdefault("others", []).append(self.found)

    def keep(self, module: str, step: str, work: Any) -> None:
        """Write down what a step gave, or why it gave nothing."""
        peer = self.found["peers"][module]
        try:
            peer[step] = work()
        except Failed as exc:
            peer[step] = {"failed": str(exc)}
            self.plan.say(f"{module}: {step}: {exc}")
        self.plan.save(self.all)

    @contextmanager
    def peers(self, replicas: int) -> Iterator[dict[str, Peer]]:
        """A process for each, all with the same servers."""
        with ExitStack() as stack:
            writers = readers = None
            try:
                writers, readers = stack.enter_context(proxies.haproxy(self.cluster, replicas))
            except (RuntimeError, OSError) as exc:
                self.found["haproxy"] = str(exc)
            made = {}
            for number, module in enumerate(self.modules):
                site = Site(
                    primary=_address(self.cluster.primary),
                    replicas=tuple(_address(node) for node in self.cluster.replicas[:replicas]),
                    user=self.cluster.user,
                    password=self.cluster.password,
                    database=self.cluster.database_name,
                    first=1 + number * 100,
                    last=100 + number * 100,
                    writers=writers,
                    readers=readers,
                )
                made[module] = Peer(module, site)
                stack.callback(made[module].close)
            yield made

    def overhead(self, peers: dict[str, Peer], rounds: int, reads: int, seconds: float) -> None:
        """One after the other. Over one replica both forms ask the same server; the quick form has two."""
        for module, peer in peers.items():
            self.keep(module, "about", lambda peer=peer: peer.call("about"))
            self.found["peers"][module].update(self.found["peers"][module]["about"])
            work = {"number": rounds, "reads": reads, "seconds": seconds}
            self.keep(module, "overhead", lambda peer=peer, work=work: peer.call("overhead", **work))
            self.plan.say(f"overhead of {module}")

    def consistency(self, peers: dict[str, Peer], operations: int, pairs: int, seconds: float) -> None:
        """Where reads go, and what they see where one of two replicas is behind."""
        for module, peer in peers.items():
            work = {"operations": operations, "each": 10, "writes": 0.1}
            self.keep(module, "mix", lambda peer=peer, work=work: peer.call("mix", **work))
        self.plan.say("share of reads by replicas")
        with late(self.cluster, self.cluster.replicas[0]) as relay:
            for behind in LATE_MS:
                relay.to_client = behind / 1000
                for module, peer in peers.items():
                    work = {"pairs": pairs, "seconds": seconds}
                    step = f"stale {behind}"
                    self.keep(module, step, lambda peer=peer, work=work: peer.call("stale", **work))
                self.plan.say(f"reads after writes, one replica {behind} ms behind")
        self.cluster.sync(30)

    def fault(
        self, peers: dict[str, Peer], step: str, seconds: float, at: float, strike: Any, heal: Any
    ) -> None:
        """All at once read at an even pace while one of two replicas fails."""
        began = time.monotonic()
        for module, peer in peers.items():
            # Connections are opened anew, and before the fault, not by it.
            self.keep(module, step, lambda peer=peer: _meets_both(peer))
        ready = {
            module: peer
            for module, peer in peers.items()
            if "failed" not in self.found["peers"][module][step]
        }
        begins = time.monotonic() + CONNECT_SECONDS
        for peer in ready.values():
            peer.ask("load", begins=begins, seconds=seconds, threads=4, every=self.plan.pick(0.1, 0.04))
        wait_until(begins + at)
        struck = time.monotonic()
        strike()
        try:
            heal(struck)
            for module, peer in ready.items():
                self.keep(
                    module, step, lambda peer=peer: _hurt(peer.answer(CONNECT_SECONDS + seconds + 40), struck)
                )
        finally:
            node = self.cluster.replicas[0]
            node.resume()
            node.start()
        self.cluster.sync(30)
        self.plan.say(f"{step}: {time.monotonic() - began:.0f} s")


def _meets_both(peer: Peer) -> dict[str, Any]:
    """Connect until each replica was met: a proxy takes a while to trust one again that was gone."""
    until, met = time.monotonic() + MEET_SECONDS, set()
    while True:
        answer = peer.call("begin_anew")
        met.add(answer["node"])
        if met >= {1, 2} or time.monotonic() > until:
            return answer


def _address(node: Any) -> Address:
    return Address(node.host, node.port)


def _hurt(load: dict[str, Any], struck: float) -> dict[str, Any]:
    """What a fault did to the reads that were under way or began after it."""
    touched = [read for read in load["reads"] if read[0] + read[1] >= struck]
    before = [read for read in load["reads"] if read[0] + read[1] < struck]
    failed = [read for read in touched if read[2] < 0]
    slots: dict[int, list[float]] = {}
    for began, took, node in load["reads"]:
        slot = slots.setdefault(int((began - struck) // 0.25), [0, 0, 0.0])
        slot[0] += 1
        slot[1] += node < 0
        slot[2] = max(slot[2], took * 1000)
    return {
        "reads": len(touched),
        "failed": len(failed),
        "at_risk": sum(read[2] == 1 for read in before) / max(1, len(before)),
        "failed_before": sum(read[2] < 0 for read in before),
        "longest_ms": max((read[1] for read in touched), default=0.0) * 1000,
        "last_failure_s": max((read[0] - struck for read in failed), default=0.0),
        "errors": load["errors"],
        "slots": [[slot * 0.25, *slots[slot]] for slot in sorted(slots)],
    }


def measure(plan: Plan) -> dict[str, Any]:
    """All steps, on each server in turn; the results of the second are among those of the first."""
    found: dict[str, Any] | None = None
    for server in plan.servers:
        plan.say(server)
        found = _measure_on(server, plan, found)
    assert found is not None  # a plan has a server
    return found


def _measure_on(server: str, plan: Plan, found: dict[str, Any] | None) -> dict[str, Any]:
    with stage(server, 2) as cluster:
        run = Comparison(plan, cluster, first=found)
        size = plan.pick((3, 20, 1.0), (60, 150, 12.0))
        if not plan.quick:
            with run.peers(1) as peers:
                run.overhead(peers, *size)
        first = cluster.replicas[0]
        fault, pause = plan.pick((3.0, 1.0), (7.0, 1.0)), plan.pick(1.0, 8.0)
        run.found["paused_s"] = pause

        def wait_and_resume(struck: float) -> None:
            wait_until(struck + pause)
            first.resume()

        with run.peers(2) as peers:
            if plan.quick:  # to start all peers twice takes as long as all that is asked of them
                run.overhead(peers, *size)
            run.consistency(peers, plan.pick(60, 600), plan.pick(8, 60), plan.pick(2.0, 8.0))
            run.fault(peers, "kill", *fault, first.kill, lambda struck: None)
            run.fault(peers, "pause", pause + 3.0, 1.0, first.pause, wait_and_resume)
        return run.all
