"""A replica, as users see it."""

from __future__ import annotations

from typing import NoReturn, Protocol


class Shown(Protocol):
    """What a node has that users may see."""

    name: str
    address: str
    weight: int
    current_weight: float
    is_primary: bool
    role: str | None
    lag: float | None
    position: str | None
    in_flight: int

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
    """A node that serves reads: what can be asked of it, and the two things that can be done to it.

    There is one for each node, so that they can be compared and kept; `db.replicas` has them, and a policy
    of your own is given them. It shows the node as it is at the moment of asking.
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
        """What it is called in events, errors and statistics."""
        return self._node.name

    @property
    def address(self) -> str:
        """``host:port``, or the path of its socket."""
        return self._node.address

    @property
    def weight(self) -> int:
        """Its share of the reads, relative to the others'; 0 keeps it out of rotation."""
        return self._node.weight

    @property
    def current_weight(self) -> float:
        """The part of its weight that counts now: less while it warms up."""
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
        - ``"unfit"``: it answers, but is no replica of the primary now: it does not replicate, or from
          another server, was promoted, or is in offline mode.
        - ``"removed"``: `set_replicas` took it out.
        """
        return self._node.state

    @property
    def cause(self) -> str:
        """Why no reads go there, in words; ``""`` while they do."""
        return self._node.cause

    @property
    def role(self) -> str | None:
        """What the last probe found it to be; None: it has not been probed yet.

        ``"replica"``. ``"primary"``, be it under another address. ``"member"`` of a cluster that replicates
        by other means. ``"detached"``: it replicates from nobody or from another primary, or takes writes of
        its own.
        """
        return self._node.role

    @property
    def lag(self) -> float | None:
        """At most how many seconds it was behind when it was last probed; None where that is not known."""
        return self._node.lag

    @property
    def position(self) -> str | None:
        """How far its data had come then, in the server's notation; None where that is not known."""
        return self._node.position

    @property
    def in_flight(self) -> int:
        """Reads that this process has sent there and that are not answered yet."""
        return self._node.in_flight

    @property
    def latency(self) -> float | None:
        """Seconds that recent reads took there, where the policy looks at it; else None."""
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
