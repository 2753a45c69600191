"""The prober's connection to one server, who opens it, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ..servers.protocols import ServerConnection
from .interview import Facts, Questionnaire, facts
from .node import Node
from .probe_key import ProbeKey
from .probe_run import Probe
from .silence import Silence
from .waiting_reads import WaitingReads


class ErrorReader(Protocol):
    """Explains the errors of a connection."""

    def ejects(self, node: Node, exc: BaseException) -> bool:
        """Return whether a node leaves the rotation when connecting to it fails with this error."""

    def bars(self, exc: BaseException) -> bool:
        """Return whether this error, raised while connecting, will meet the next attempt too."""

    def refuses(self, exc: BaseException) -> bool:
        """Return whether this error, raised while connecting, comes from a server that answers."""

    def has_no_connection(self, exc: BaseException) -> bool:
        """Return whether an error means that the node cannot be reached, or has closed the connection."""

    def cause(self, exc: BaseException) -> str:
        """Return an error in words, with what to do about it."""


class Connector(Protocol):
    """Opens the prober's connections."""

    @property
    def diagnosis(self) -> ErrorReader:
        """Explains the errors of these connections."""

    @property
    def parameters(self) -> object:
        """The parameters of its connections; another object once the program has replaced them."""

    def probe_key(self, nodes: Sequence[Node], interval: float) -> ProbeKey:
        """Return what is equal for databases that may share a prober.

        Parameters:
            nodes: the nodes to probe, the primary first.
            interval: seconds between two probes.
        """

    def open_probe(
        self,
        node: Node,
        seconds: float,
        watch: Callable[[ServerConnection], None],
        with_schema: bool = True,
    ) -> ServerConnection:
        """Open a connection for the prober alone.

        Parameters:
            seconds: the time limit.
            watch: called with the connection before it is opened.
            with_schema: whether to choose the database's schema.
        """

    def choose_schema(self, conn: ServerConnection) -> None:
        """Choose the database's schema on a connection that was opened without one."""


class Answer(NamedTuple):
    """What a server has answered to one probe.

    Attributes:
        told: the facts in its answers.
        asked_at, answered_at: when the first question was sent, and when the last answer came, by a
            monotonic clock.
        opened: the number of the connection, counted as by `Line.opened`.
        silent_since: when the first question was sent that got no answer before these; None: all had one.
        complaint: why a question is not asked any more, in words, or ``""``.
    """

    told: Facts
    asked_at: float
    answered_at: float
    opened: int
    silent_since: float | None
    complaint: str


class Line:
    """The prober's connection to one server, which serves all databases that share the prober.

    Attributes:
        conn: the connection, or None.
        opened: how many connections have been opened.
        opener: the thread that opens, or last opened, a connection.
        questionnaire: which questions are worth asking on this connection.
        last: the last answer, or None.
        failed_at: when the last attempt to ask failed, by a monotonic clock.
        silent: how many probes in a row got no answer in time.
        unanswered_since: when the first question was sent since its last answers; None: none is under way.
        outdated: replace the connection, because the address may lead to another server by now.
        reads: the reads that wait at the server.
        sampled: set once it was asked for the first time, or could not be asked; for the primary's line.
    """

    def __init__(self) -> None:
        self.conn: ServerConnection | None = None
        self.opened = 0
        self.opener: threading.Thread | None = None
        self.questionnaire = Questionnaire(None)
        self.last: Answer | None = None
        self.failed_at = float("-inf")
        self.silent = 0
        self.unanswered_since: float | None = None
        self.outdated = False
        self.reads = WaitingReads()
        self.sampled = threading.Event()

    @property
    def silence(self) -> Silence:
        """Tells when reads have waited at the server in vain for too long."""
        return self.reads.silence

    @property
    def answered_at(self) -> float:
        """When the last answer came, by a monotonic clock."""
        return float("-inf") if self.last is None else self.last.answered_at

    @property
    def is_opening(self) -> bool:
        """Whether a thread is opening a connection."""
        return self.opener is not None and self.opener.is_alive()

    def is_old(self, now: float) -> bool:
        """Return whether its connection is older than it should get.

        Parameters:
            now: a monotonic clock's reading, in seconds.
        """
        conn = self.conn
        return conn is not None and conn.expires is not None and now >= conn.expires

    def to_open(self, now: float) -> bool:
        """Return whether it needs a new connection; the parameter is as for `is_old`."""
        return self.conn is None or self.outdated or self.is_old(now)

    def asked(self, now: float, *, may_take: float = 0.0) -> None:
        """Record that the server was asked, as for `Silence.asked`."""
        if self.unanswered_since is None:
            self.unanswered_since = now
        self.silence.asked(now, may_take=may_take)

    def adopt(self, conn: ServerConnection, heartbeat_table: str | None) -> None:
        """Use a new connection from now on."""
        self.conn = conn
        self.opened += 1
        self.questionnaire = Questionnaire(heartbeat_table)

    def take(self, probe: Probe, *, is_primary: bool) -> Answer:
        """Record a finished probe, and return what it has found.

        Parameters:
            is_primary: whether the node is the primary.
        """
        assert probe.answers is not None
        told = facts(probe.answers, probe.conn.dialect)
        asked = self.questionnaire
        silent_since = self.unanswered_since if self.silent else None
        answer = Answer(told, probe.asked_at, probe.answered_at, self.opened, silent_since, asked.complaint)
        if asked.complaint:
            asked.complaint, asked.heartbeat_table = "", None
        # This connection may lead to a demoted primary, while the address already leads elsewhere.
        self.outdated = is_primary and told.read_only
        self.silent, self.unanswered_since = 0, None
        self.reads.probes += 1
        self.last = answer
        return answer
