"""Keeps what earlier probes of a node found, to compare later ones with. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from ..positions import Position
from .fitness import Evidence, Fitness, assess, primary_remark, respite
from .interview import Facts
from .lag import Samples, heartbeat_lag, lag_bound
from .unreached import why_unreached
from .upstream import Peer, Upstream, same_server, upstream


class Surroundings(NamedTuple):
    """What is known about the other nodes, for judging one node.

    Attributes:
        primary: the primary's label, for messages.
        address: where this process reaches the primary.
        samples: the primary's sampled positions.
        earlier, later: the other nodes that serve reads, listed before and after this one.
        complete: whether all of them have been asked.
    """

    primary: str
    address: str
    samples: Samples
    earlier: Sequence[Peer] = ()
    later: Sequence[Peer] = ()
    complete: bool = True


class Labelled(Protocol):
    """A node, as other nodes see it."""

    @property
    def label(self) -> str: ...
    @property
    def address(self) -> str: ...


N = TypeVar("N", bound=Labelled)


def surroundings(
    node: N, primary: N, replicas: Iterable[N], told: Callable[[N], Facts | None], samples: Samples,
    *, complete: bool,
) -> Surroundings:  # fmt: skip
    """Return what is known about the other nodes.

    Parameters:
        node: the node that is to be judged.
        primary, replicas: the nodes of the cluster; the primary may be among those that serve reads.
        told: returns a node's last answers, or None if it has not answered.
        samples: the primary's sampled positions.
        complete: whether all other nodes have been asked.
    """
    others = [other for other in replicas if other is not primary]
    peers = [Peer(other.label, other.address, told(other)) for other in others]
    place = others.index(node) if node in others else len(others)
    return Surroundings(
        f"the primary ({primary.address})",
        primary.address,
        samples,
        peers[:place],
        peers[place + 1 :],
        complete,
    )


class ProbeHistory:
    """Keeps what the probes of one node found, and judges the node by these findings.

    Attributes:
        told: the node's last answers; None: it has not answered yet.
        read_only: whether the node was read-only in its last answers; None: not known.
    """

    def __init__(self) -> None:
        self.told: Facts | None = None
        self.read_only: bool | None = None
        self._answered_at = 0.0
        self._forget()

    def _forget(self) -> None:
        self._forget_progress()
        self._own = self._others = ""

    def _forget_progress(self) -> None:
        self._reached_at: float | None = None
        self._upstream: Upstream | None = None
        self._position_then: Position | None = None  # when first seen to follow its present sources
        self._proven = False
        self._followed = False  # it was seen to follow the primary
        self._strayed_at: float | None = None  # since when it is seen not to follow it
        self._fit_at: float | None = None  # when it was last found fit, with a lag of `_fit_lag`
        self._fit_lag = 0.0
        self._unfit_at: float | None = None  # since when it is found unfit

    def assess(
        self, told: Facts, answered_at: float, around: Surroundings,
        *, serves: bool, listed: bool, max_lag: float | None,
    ) -> Fitness:  # fmt: skip
        """Decide from the node's present and earlier answers whether it may serve reads.

        Parameters:
            told: the node's answers now.
            answered_at: when they came, by a monotonic clock in seconds.
            around: the other nodes.
            serves: whether the node is listed for reads; if not, it is the primary, which needs no judging.
            listed: whether the node was configured as the primary.
            max_lag: the bound in seconds; None: no bound.
        """
        before, self.told = self.told, told
        if not serves:
            return Fitness("up", "", "primary", 0.0, primary_remark(told))
        samples = around.samples
        moved_back = (
            before is not None
            and before.position is not None
            and told.position is not None
            and type(told.position) is type(before.position)
            and not told.position.covers(before.position)
        )
        # Findings about another server, or from before a restore from a backup, no longer apply.
        if before is None or told.server != before.server:
            self._forget()
        else:
            if moved_back:
                self._forget_progress()
            # Positions also seem to move back and forth where two sources of a node share a GTID domain.
            self._compare(before, samples)
        self._answered_at = answered_at
        reached_at = None if told.position is None else samples.reached(told.position)
        if reached_at is not None:
            self._reached_at = max(reached_at, self._reached_at or reached_at)
        self._follow(told, answered_at, around)
        assert self._upstream is not None
        primary = samples.told
        beat = heartbeat_lag(None if primary is None else primary.beats, told.beats)
        lag = beat
        if lag is None and self._reached_at is not None:
            lag = lag_bound(self._reached_at, answered_at, samples)
        found = assess(
            Evidence(
                told,
                is_primary=listed
                or (primary is not None and _is_known(told) and told.server == primary.server),
                listed=listed,
                primary=around.primary,
                primary_answers=samples.answers,
                upstream=self._upstream,
                lag=lag,
                doubt=self._doubt(told, samples),
                proven=self._proven or beat is not None,
                own=self._own,
                others=self._others,
                twin=same_server(told, around.earlier),
                unmeasured=primary is not None and (primary.sample is None or told.position is None),
            ),
            max_lag,
        )
        return self._bear_with(found, told, answered_at, samples, max_lag)

    def _bear_with(
        self, found: Fitness, told: Facts, answered_at: float, samples: Samples, max_lag: float | None
    ) -> Fitness:
        """Return the verdict, or a milder one if the node was fit until the primary fell silent."""
        if found.state != "unfit":
            self._unfit_at = None
            self._fit_at, self._fit_lag = answered_at, found.lag or 0.0
            return found
        if self._unfit_at is None:
            self._unfit_at = answered_at
        if self._fit_at is None or not samples.silent_since(self._unfit_at):
            return found
        return respite(found, told, self._fit_lag + answered_at - self._fit_at, max_lag)

    def _doubt(self, told: Facts, samples: Samples) -> str:
        """Return why the node was never seen to reach a position of the primary's, or ``""``."""
        if samples.oldest is None or told.position is None or self._reached_at is not None:
            return ""
        return why_unreached(told.position, samples.oldest)

    def _compare(self, before: Facts, samples: Samples) -> None:
        """Note transactions that the node had one round ago and that the primary still lacks now.

        Newer ones may be on their way, so the primary must have been asked after the node answered.
        """
        primary, asked_at = samples.told, samples.asked_at
        if primary is None or asked_at is None or not samples.answers or asked_at <= self._answered_at:
            return
        own, others = before.dialect.unshared(before.variables, primary.variables)
        # Keep the first finding while any exists; otherwise each further transaction would be logged as news.
        self._own = (self._own or own) if own else ""
        self._others = (self._others or others) if others else ""

    def _follow(self, told: Facts, answered_at: float, around: Surroundings) -> None:
        """Note which source the node follows, and whether the primary's data was seen to arrive from it."""
        samples = around.samples
        primary = Peer(around.primary, around.address, samples.told)
        now = upstream(told, primary, (*around.earlier, *around.later), complete=around.complete)
        was = self._upstream
        known = was is not None and [c.source for c in was.channels] == [c.source for c in now.channels]
        if now.relation == "primary":
            self._followed, self._strayed_at = True, None
        elif self._followed:
            if self._strayed_at is None:
                self._strayed_at = answered_at
            if samples.silent_since(self._strayed_at):
                # During a failover, replicas are pointed at the next primary before `host` leads to it. Their
                # rows are still the primary's.
                now = now._replace(relation="primary")
        self._upstream = now
        if not known:
            self._position_then, self._proven = told.position, False
        if not self._proven:
            self._proven = samples.gained(self._position_then, told.position) or (
                samples.told is not None and told.dialect.has_all_of(told.variables, samples.told.variables)
            )


def _is_known(told: Facts) -> bool:
    return bool(told.server.server_id)
