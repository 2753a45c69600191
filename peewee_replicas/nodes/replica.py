"""A replica, as users see it."""

from __future__ import annotations

from typing import NoReturn, Protocol

from .tags import Tags


class Shown(Protocol):
    """The part of a node that users may see."""

    name: str
    address: str
    weight: int
    tags: Tags
    current_weight: float
    is_primary: bool
    role: str | None
    lag: float | None
    position: str | None

    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def in_flight(self) -> int: ...

    @property
    def label(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def latency(self) -> float | None: ...
    def eject(self, reason: str) -> None: ...
    def restore(self) -> None: ...


class Replica:
    """A node that serves reads, with its current state; it can be ejected and restored.

    Each node has exactly one `Replica`, so replicas can be compared and kept. `db.replicas` lists them, and a
    policy of your own receives them. Each attribute shows the node's state at the moment of access.
    """

    __slots__ = ("__weakref__", "_node")

    def __init__(self, node: Shown) -> None:
        self._node = node

    def __repr__(self) -> str:
        return f"<Replica {self._node.label} {self._node.state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to this process and cannot be pickled; pass its name on instead")

    @property
    def name(self) -> str:
        """Its name in events, errors and statistics."""
        return self._node.name

    @property
    def address(self) -> str:
        """``host:port``, or the path of its socket."""
        return self._node.address

    @property
    def host(self) -> str | None:
        """The host's name or address; None if it is reached through a socket."""
        return self._node.host

    @property
    def port(self) -> int | None:
        """The port; None if it is reached through a socket."""
        return self._node.port

    @property
    def weight(self) -> int:
        """Its share of the reads, relative to the others'; 0 keeps it out of rotation."""
        return self._node.weight

    @property
    def tags(self) -> Tags:
        """The names and values that describe it, as configured."""
        return self._node.tags

    @property
    def current_weight(self) -> float:
        """The weight that counts now; less than `weight` while the node warms up."""
        return self._node.current_weight

    @property
    def is_primary(self) -> bool:
        """Whether it is the primary, listed as a replica."""
        return self._node.is_primary

    @property
    def state(self) -> str:
        """Whether reads go there, in one word.

        - ``"up"``: they do.
        - ``"ejected"``: it cannot be reached, or was taken out by hand.
        - ``"lagging"``: it is further behind than ``max_lag``.
        - ``"unfit"``: it answers, but is no replica of the primary now: it does not replicate, replicates
          from another server, was promoted, or is in offline mode. While the primary does not answer, such a
          node stays ``"up"`` until its rows may be older than ``max_lag``.
        - ``"removed"``: `set_replicas` took it out.
        """
        return self._node.state

    @property
    def cause(self) -> str:
        """Why no reads go there, in words; ``""`` while they do."""
        return self._node.cause

    @property
    def role(self) -> str | None:
        """The role that the last probe found; None: it has not been probed yet.

        ``"replica"``; ``"primary"``, even under another address; ``"member"``: it belongs to a cluster that
        replicates by other means, such as Galera; ``"detached"``: it replicates from nobody or from another
        primary, or takes writes of its own.
        """
        return self._node.role

    @property
    def lag(self) -> float | None:
        """The most that it can have lagged at the last probe, in seconds; None if unknown."""
        return self._node.lag

    @property
    def position(self) -> str | None:
        """Its position at the last probe, in the server's notation; None if unknown."""
        return self._node.position

    @property
    def in_flight(self) -> int:
        """The number of reads that this process has sent there and that are not answered yet."""
        return self._node.in_flight

    @property
    def latency(self) -> float | None:
        """Seconds that recent reads took there, if the policy uses latencies; else None."""
        return self._node.latency

    def eject(self, reason: str) -> None:
        """Take it out of rotation until `restore` is called.

        Parameters:
            reason: why, in words; it appears in the log and in errors.
        """
        self._node.eject(reason)

    def restore(self) -> None:
        """Put it back into rotation now."""
        self._node.restore()
