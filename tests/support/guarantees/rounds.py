"""Rounds of work on one cluster, with every level of consistency and every negative control at once."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from typing import Any

from support.guarantees.actors import Actor
from support.guarantees.checker import Inherits, Report, check
from support.guarantees.faults import Faults
from support.guarantees.setups import SETUP_CONTROLS, speaking
from support.guarantees.workload import JOINT, Round, listen

from peewee_replicas.servers import mariadb

CONTROLS = ("control: eventual", "control: unpinned", "control: binlog position", *SETUP_CONTROLS)
# On MariaDB a replica's binary log is ahead of its visible rows where it applies in parallel, and while it
# waits for the disk.
OPTIONS = {
    "mariadb": {
        "*": {
            "log_bin": None,
            "log_slave_updates": "ON",
            "slave_parallel_threads": 6,
            # Or a domain that is held up would take all threads, and hold the other one up as well.
            "slave_domain_parallel_threads": 4,
            "slave_parallel_mode": "optimistic",
            "sync_binlog": 1,
        }
    },
    "mysql": {},
}

Operations = tuple[list[Callable[[], None]], list[float]]


def binlog_wait(target: str, seconds: float) -> str:
    (gtid,) = mariadb.position(target).gtids()
    there = f"CAST(SUBSTRING_INDEX(@@GLOBAL.gtid_binlog_pos, '-', -1) AS UNSIGNED) >= {gtid.sequence}"
    wait = f"IF({there}, 0, MASTER_GTID_WAIT('{target}', {seconds:.3f}))"
    return f"SELECT {wait}, @@server_uid, @@GLOBAL.gtid_binlog_pos"


# A negative control: believes that a MariaDB replica shows all that is in its binary log.
BINLOG_PROGRESS = speaking(mariadb, wait=binlog_wait)


class CausalActor(Actor):
    """A session that works in causal sessions, two threads at a time, and hands bookmarks around."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._helper = ThreadPoolExecutor(1)
        self._children = itertools.count(1)

    def run(self, *arguments: Any) -> None:
        """Run as any actor does, then close the helper's connections."""
        try:
            super().run(*arguments)
        finally:
            self._helper.submit(self.reconnect).result()
            self._helper.shutdown()

    def _inherit(self, session: str, source: str) -> None:
        self.shared.events.append(Inherits(session, source, self.shared.tick()))

    def _child(self) -> Actor:
        session = f"{self.session}/{next(self._children)}"
        child = Actor(self.shared, self.database, self.group, session, self.promise, self.chance)
        child.entries, child.known = list(self.entries), dict(self.known)
        return child

    @contextmanager
    def _session(self, child: Actor, bookmark: str | None = None) -> Iterator[None]:
        self._inherit(child.session, self.session)
        with self.database.causal_session(bookmark), child.in_scope():
            yield
        self._inherit(self.session, child.session)

    def causal_session(self) -> None:
        """Work with two threads in one causal session, where each must see what the other did."""
        child = self._child()
        with self._session(child):
            chance = random.Random(self.chance.random())
            other = Actor(self.shared, self.database, self.group, child.session, self.promise, chance)
            other.scope = child.scope
            work = self._helper.submit(copy_context().run, _some, other)
            try:
                _some(child)
            finally:
                work.result()

    def mark(self) -> None:
        """Write something and leave a bookmark of it."""
        self.update()
        name = f"{self.session} mark {next(self._children)}"
        self._inherit(name, self.session)
        text = self.database.bookmark()
        if text is not None:
            self.shared.marks.append((text, name))
            del self.shared.marks[:-4]

    def follow(self) -> None:
        """Read with a bookmark that another session left."""
        try:
            text, name = self.shared.marks.pop()
        except IndexError:
            return
        child = self._child()
        self._inherit(child.session, name)
        with self._session(child, text):
            child.read()
            child.read()


def _some(actor: Actor) -> None:
    for _ in range(3):
        actor.chance.choice([actor.read, actor.update, actor.locking_read, actor.failed_insert])()
        actor.read()


def _mixed(actor: Actor) -> Operations:
    """The mix of operations of a program, where about one statement in four writes."""
    weighted: dict[Callable[[], None], float] = {
        actor.read: 30, actor.readonly: 4, actor.update: 6, actor.raw_update: 2, actor.replace: 0.7,
        actor.insert: 3, actor.delete: 1, actor.transaction: 4, actor.in_order: 1, actor.locking_read: 1,
        actor.no_op: 1, actor.too_late: 1, actor.roll_back: 1, actor.read_transaction: 1,
        actor.get_or_create: 2, actor.insert_ignore: 1, actor.failed_insert: 1,
    }  # fmt: skip
    return list(weighted), list(weighted.values())


def _followed(actor: Actor) -> Operations:
    """Reads directly after writes, where a broken promise shows first."""
    writes = [actor.update, actor.failed_insert, actor.too_late, actor.insert]

    def write_and_read() -> None:
        actor.chance.choice(writes)()
        actor.read()

    return [write_and_read, actor.readonly, actor.rest], [4, 1, 4]


def _scoped(actor: Actor) -> Operations:
    return [actor.readonly, actor.rest], [1, 2]


def _unpinned(actor: Actor) -> Operations:
    return [actor.unpinned, actor.rest], [1, 2]


def _causal(actor: CausalActor) -> Operations:
    return [actor.causal_session, actor.mark, actor.follow, actor.read, actor.get_or_create], [3, 3, 4, 4, 2]


class Work:
    """Sessions on a cluster, to be run for a while.

    Parameters:
        cluster: a running cluster.
        controls: run the negative controls too.
        more: further casts, as those of a set-up.

    Attributes:
        served: who answered plain reads, by group and role.
        troubles: what faults did to operations, which were then not checked.
    """

    def __init__(self, cluster: Any, *, controls: bool = True, more: Sequence[Any] = ()) -> None:
        self.cluster = cluster
        self.served: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        make = cluster.database
        one, two = make(), make()
        process = make(consistency="process")
        strong = make(consistency="strong"), make(consistency="strong")
        eventual = make(consistency="eventual")
        self.admin = make()
        self.casts: list[tuple[str, Any, str, Any, type[Actor], Callable[[Any], Operations]]] = [
            ("session", one, "session 1", "session", Actor, _mixed),
            ("session", one, "session 2", "session", Actor, _mixed),
            ("causal session", one, "causal 1", "session", CausalActor, _causal),
            ("causal session", two, "causal 2", "session", CausalActor, _causal),
            ("process", process, "process", "session", Actor, _mixed),
            ("process", process, "process", "session", Actor, _mixed),
            ("strong", strong[0], "strong 1", "strong", Actor, _mixed),
            ("strong", strong[1], "strong 2", "strong", Actor, _mixed),
            ("eventual, in scopes", eventual, "scopes", "eventual", Actor, _scoped),
        ]
        if controls:
            eventual = make(consistency="eventual")
            unpinned = make(consistency="eventual", policy="random")
            self.casts += [
                (CONTROLS[0], eventual, "eventual", "session", Actor, _followed),
                (CONTROLS[1], unpinned, "unpinned", "eventual", Actor, _unpinned),
            ]
            if cluster.server == "mariadb" and not more:  # it looks at one domain
                binlog = make(BINLOG_PROGRESS)
                self.casts.append((CONTROLS[2], binlog, "binlog", "session", Actor, _followed))
        self.casts += more
        self.databases = {id(cast[1]): cast for cast in self.casts}
        for group, database, *_ in self.databases.values():
            listen(database, self.served, group)

    def round(self, seconds: float, seed: object, faults: Faults | None = None) -> Report:
        """Work for a while, and check what was seen.

        Raises:
            BaseException: what no fault explains.
        """
        shared = Round()
        shared.prepare(self.admin)
        self.admin.close()  # or it might be among the connections that are killed
        self.cluster.sync()
        self._act(shared, seconds, seed, faults or nullcontext())
        shared.audit(self.admin)
        self.admin.close()
        self.troubles += shared.troubles
        if faults is not None:
            shared.surprises += faults.errors
        if shared.surprises:
            raise shared.surprises[0]
        return check(shared.events, JOINT)

    def _act(self, shared: Round, seconds: float, seed: object, faults: Any) -> None:
        """Let all sessions work for the given time."""
        threads = []
        for number, (group, database, session, promise, kind, operations) in enumerate(self.casts):
            actor = kind(shared, database, group, session, promise, random.Random(f"{seed} {number}"))
            threads.append(threading.Thread(target=actor.run, args=operations(actor)))
        for thread in threads:
            thread.start()
        with faults:
            shared.stop.wait(seconds)
        shared.stop.set()
        for thread in threads:
            thread.join()

    def counters(self) -> Counter[str]:
        """How reads came to see what they must, over all databases that promise something."""
        names = ("asked", "unasked", "waits", "behind", "fallbacks", "retries", "reruns")
        found: Counter[str] = Counter()
        for group, database, *_ in self.databases.values():
            if group not in CONTROLS:
                found.update({name: database.stats()[name] for name in names})
        return found


def table(report: Report, served: Counter[str]) -> str:
    """The report as a text."""
    lines = [f"{'':26}{'reads':>9}{'checks':>10}{'violations':>12}   served by replicas"]
    for group in sorted(report.reads, key=lambda name: (name in CONTROLS, name)):
        here, fell = served[f"{group}: replica"], served[f"{group}: fallback"]
        share = f"{here / (here + fell):.1%} of {here + fell}" if here + fell else ""
        lines.append(
            f"{group:26}{report.reads[group]:>9}{report.total(report.checks, group):>10}"
            f"{report.total(report.violations, group):>12}   {share}"
        )
    guarantees = sorted({guarantee for _, guarantee in report.checks})
    lines += ["", "without the controls:"]
    for guarantee in guarantees:
        checks, violations = (
            sum(counted[group, guarantee] for group in report.reads if group not in CONTROLS)
            for counted in (report.checks, report.violations)
        )
        lines.append(f"{guarantee:26}{'':9}{checks:>10}{violations:>12}")
    return "\n".join(lines)
