"""A failover that loses writes, behind one moving address: nobody waits for the lost ones for long.

Members of this kind are all who can hold a position: a thread's session, the process's, a
`causal_session()`, a bookmark in a job, a visitor's cookie; at every level, and with `fallback="error"`,
where there is no primary to read from. They were found by following every place that merges a position into
what a read must see. Each of them holds a write that is lost in the same failover.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from support.clusters import as_in_another_process
from support.clusters.repaired import repaired
from support.proxies.relay import Relay
from support.waiting import until
from support.webapps.visits import SECRET
from support.webapps.wsgi import Server

from peewee_replicas import NoReplicaAvailable, ReplicatedDatabase
from peewee_replicas.consistency.levels import Consistency
from peewee_replicas.ext.jobs import in_session
from peewee_replicas.ext.wsgi import CausalSessionMiddleware

SECONDS = 5.0
"""How soon after the failover all reads have to be on replicas again."""
IN_A_ROW = 10
REST = 0.02
"""Seconds between two reads of one context."""
LOST = "it was lost, for example in a failover"
NOTHING, SURVIVES, IS_LOST = 0, 1, 2

STOP_RECEIVING = {"mariadb": "STOP SLAVE IO_THREAD", "mysql": "STOP REPLICA IO_THREAD"}
STOP = {"mariadb": "STOP SLAVE", "mysql": "STOP REPLICA"}
BE_A_PRIMARY = {
    "mariadb": ("RESET SLAVE ALL", "SET GLOBAL read_only = 0"),
    "mysql": ("RESET REPLICA ALL", "SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "session": {},
    "session without fallback": {"fallback": "error"},
    "process": {"consistency": "process"},
    "process without fallback": {"consistency": "process", "fallback": "error"},
    "eventual, in causal sessions": {"consistency": "eventual"},
    "strong": {"consistency": "strong"},
    "no share that may fall back": {"max_fallback_share": 0.0},
}


class Failover:
    """A primary, a candidate for its place, and two replicas that lag behind both.

    Parameters:
        cluster: of a primary and three replicas.
        relay: the address that leads to whichever is the primary.
    """

    def __init__(self, cluster: Any, relay: Relay) -> None:
        self.cluster, self.relay = cluster, relay
        self.candidate, *self.replicas = cluster.replicas

    def database(self, **options: Any) -> Any:
        """A database behind the address, as in a process of its own."""
        replicas = [{"name": node.name, "host": node.host, "port": node.port} for node in self.replicas]
        own = {**self.cluster.parameters(self.cluster.primary), "port": self.relay.port}
        options = {
            "catch_up_timeout": 0.3,
            "probe_interval": 0.5,
            "connect_timeout": 5,
            "max_lag": None,
            **options,
        }
        with as_in_another_process():
            return ReplicatedDatabase(own.pop("database"), **{**own, "replicas": replicas, **options})

    def stop_receiving(self, *nodes: Any) -> None:
        """Let these nodes get nothing from the primary any more."""
        for node in nodes:
            node.execute(STOP_RECEIVING[self.cluster.server])

    def candidate_has(self, n: int, rows: int) -> bool:
        found = self.candidate.execute(f"SELECT n FROM {self.cluster.database_name}.held")
        return found == [(n,)] * rows

    def fail_over(self) -> None:
        """The primary is gone; the candidate takes its place, and the replicas follow it."""
        self.cluster.primary.kill()
        for node in (self.candidate, *self.replicas):
            node.execute(STOP[self.cluster.server])
        for sql in BE_A_PRIMARY[self.cluster.server]:
            self.candidate.execute(sql)
        self.relay.lead_to(self.candidate.port)
        self.relay.drop()
        for node in self.replicas:
            node.follow(self.candidate)


@contextmanager
def set_up(server: str, rows: int) -> Iterator[Failover]:
    with repaired(server, 3, [], spoils=True) as cluster, Relay(cluster.primary.port) as relay:
        table = f"{cluster.database_name}.held"
        cluster.primary.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, n INT)")
        for row in range(rows):
            cluster.primary.execute(f"INSERT INTO {table} VALUES (%s, %s)", (row, NOTHING))
        cluster.sync()
        yield Failover(cluster, relay)


class Context:
    """One who writes and reads a row of its own, in a thread of its own.

    Parameters:
        db: the database.
        row: the row's number.
    """

    def __init__(self, db: Any, row: int) -> None:
        self.db, self.row = db, row
        self.seen: list[int] = []
        self.roles: list[str] = []
        self.refused = 0
        self._sql = f"SELECT n FROM held WHERE id = {row}"
        self._role = ""
        db.route_hooks.append(self._served)

    def write(self, n: int) -> None:
        self.db.execute_sql("UPDATE held SET n = %s WHERE id = %s", (n, self.row))

    def read(self) -> None:
        """Read once, and keep what was seen and who served it."""
        self._role = ""
        ((n,),) = self.db.execute_sql(self._sql).fetchall()
        self.seen.append(int(n))
        self.roles.append(self._role)

    def _served(self, event: Any) -> None:
        if event.sql == self._sql:
            self._role = event.role

    def read_until_on_replicas(self, deadline: float) -> None:
        while self.roles[-IN_A_ROW:] != ["replica"] * IN_A_ROW:
            assert time.monotonic() < deadline, (type(self).__name__, self.roles, self.refused)
            try:
                self.read()
            except NoReplicaAvailable:
                self.refused += 1
            time.sleep(REST)  # only how soon reads are back counts, and not how many there were until then

    def end(self) -> None:
        self.db.close()


class Thread(Context):
    """Whose session stays the same."""


class Units(Context):
    """Whose each statement is a unit of work of its own, which begins with what the process has written."""

    def write(self, n: int) -> None:
        with self.db.connection_context():
            super().write(n)

    def read(self) -> None:
        with self.db.connection_context():
            super().read()


class Causal(Context):
    """Who stays inside one `causal_session()`."""

    def write(self, n: int) -> None:
        if n == SURVIVES:
            self._scope = self.db.causal_session()
            self._scope.__enter__()
        super().write(n)

    def end(self) -> None:
        self._scope.__exit__(None, None, None)
        super().end()


class Jobs(Context):
    """Whose every read is a job with the bookmark of what was written before."""

    def write(self, n: int) -> None:
        super().write(n)
        self._bookmark = self.db.bookmark()
        self.db.close()

    def read(self) -> None:
        in_session(self.db)(super().read)(bookmark=self._bookmark)
        self.db.close()


class Visitor(Context):
    """Whose cookie goes from request to request."""

    def __init__(self, db: Any, row: int) -> None:
        super().__init__(db, row)
        self._work: Callable[[], None] = lambda: None

        def application(environ: Any, start_response: Any) -> list[bytes]:
            self._work()
            self.db.close()
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b""]

        self._server = Server(CausalSessionMiddleware(application, db, secret=SECRET))

    def write(self, n: int) -> None:
        self._work = lambda: Context.write(self, n)
        self._server.ask("POST")

    def read(self) -> None:
        self._work = lambda: Context.read(self)
        self._server.ask("GET")


KINDS: tuple[type[Context], ...] = (Thread, Units, Causal, Jobs, Visitor)


def lost_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if LOST in record.getMessage()]


@contextmanager
def failed_over(server: str, options: dict[str, Any]) -> Iterator[tuple[Any, list[Context], list[Any]]]:
    """Everybody has a write that is lost, and the failover is over."""
    kinds = KINDS if options.get("consistency") != "eventual" else (Causal, Jobs, Visitor)
    with set_up(server, len(kinds)) as failover:
        db = failover.database(**options)
        contexts = [kind(db, row) for row, kind in enumerate(kinds)]
        threads = [ThreadPoolExecutor(1) for _ in contexts]

        def each(name: str, *args: Any) -> None:
            for thread, context in zip(threads, contexts, strict=True):
                thread.submit(getattr(context, name), *args).result()

        failover.stop_receiving(*failover.replicas)
        each("write", SURVIVES)
        until(lambda: failover.candidate_has(SURVIVES, len(kinds)))
        failover.stop_receiving(failover.candidate)
        each("write", IS_LOST)
        failover.fail_over()
        yield db, contexts, threads
        each("end")
        for thread in threads:
            thread.shutdown()
        db.dispose()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_reads_are_back_on_replicas_soon_and_see_what_has_survived(
    server: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "peewee.replicas"), failed_over(server, options) as found:
        _, contexts, threads = found
        deadline = time.monotonic() + SECONDS
        reading = [
            thread.submit(context.read_until_on_replicas, deadline)
            for thread, context in zip(threads, contexts, strict=True)
        ]
        for one in reading:
            one.result()
    for context in contexts:
        kind = type(context).__name__
        assert set(context.seen) == {SURVIVES}, (kind, context.seen, context.roles)
    # At level strong nothing is waited for but what the primary has.
    said = 0 if options.get("consistency") == "strong" else 1
    assert len(lost_lines(caplog)) == said, lost_lines(caplog)


def test_without_the_mend_reads_stay_on_the_primary(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consistency, "_give_up_lost", lambda *_: None)
    with failed_over(server, {}) as (_, contexts, threads):
        deadline = time.monotonic() + 2.0
        reading = [
            thread.submit(context.read_until_on_replicas, deadline)
            for thread, context in zip(threads, contexts, strict=True)
        ]
        for one in reading:
            with pytest.raises(AssertionError):
                one.result()
