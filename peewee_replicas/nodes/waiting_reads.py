"""Tells whether the reads of several databases wait in vain at a server. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .silence import Advice, Silence


class Reader(Protocol):
    """A node of one database, with the numbers that it keeps anyway."""

    @property
    def answers(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def reads(self) -> int: ...


class Tally:
    """What has been counted of one node's reads already.

    Attributes:
        answers, reads: the node's numbers then; None: it has not been counted yet.
    """

    __slots__ = ("answers", "reads")

    def __init__(self) -> None:
        self.answers: int | None = None
        self.reads = 0


class WaitingReads:
    """The reads at one server. An answer to any of them, whichever database sent it, is a sign of life.

    Attributes:
        silence: tells when they have waited in vain for too long.
        probes: how many probes the server has answered.
    """

    def __init__(self) -> None:
        self.silence = Silence()
        self.probes = 0
        self._answers = self._started = 0

    def look(self, now: float, nodes: Iterable[tuple[Reader, Tally]]) -> Advice:
        """Return what to do about the server now.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            nodes: the server as each database knows it.
        """
        waiting = 0
        for node, tally in nodes:
            # Databases come and go, so what is added is how far each number has grown.
            answers, before = node.answers, tally.answers
            if before is None:
                tally.answers, tally.reads = answers, node.reads
            elif answers > before:
                tally.answers = answers
                self._answers += answers - before
            waiting += node.waiting
            if node.reads != tally.reads:
                tally.reads = node.reads
                self._started += 1
        return self.silence.look(
            now, answers=self._answers + self.probes, waiting=waiting, started=self._started
        )

    def begin_anew(self) -> None:
        """Forget what was seen, because the server has been ejected."""
        self.silence = Silence()
