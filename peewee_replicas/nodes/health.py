"""Decides from what is known whether reads and writes may be served, and by whom. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .primary_state import PrimaryState


class NodeHealth(NamedTuple):
    """One node, as far as is known.

    Attributes:
        name, address, state, role, lag, cause: as in `Replica`.
        usable: whether a read may go there now.
    """

    name: str
    address: str
    state: str
    role: str | None
    lag: float | None
    cause: str
    usable: bool


class Health(NamedTuple):
    """Whether a database can serve, from what is known. What is not known yet counts as working.

    Attributes:
        reads: whether reads can be served.
        writes: whether writes can be served.
        read_by: the names of the nodes that may serve a read now; the primary's if reads fall back to it.
        written_by: the name of the node that takes the writes; None if none can.
        cause: why reads or writes cannot be served, or why the primary serves the reads; or ``""``.
        probed: whether the prober is at work, so that this is at most about ``probe_interval`` old.
        nodes: the nodes that serve reads, in the order they were given.
    """

    reads: bool
    writes: bool
    read_by: tuple[str, ...]
    written_by: str | None
    cause: str
    probed: bool
    nodes: tuple[NodeHealth, ...]


def judge_health(
    nodes: Sequence[NodeHealth],
    primary: str,
    state: PrimaryState,
    *,
    reads: str | float,
    writes: str = "allow",
    falls_back: bool,
    probed: bool,
) -> Health:
    """Return the health of a database.

    Parameters:
        nodes: the nodes that serve reads.
        primary: the primary's name.
        state: what is known of the primary.
        reads: the setting: ``"replica"``, ``"primary"``, ``"observe"``, or the share of the reads
            that replicas serve; the primary then serves the others.
        writes: the setting: ``"allow"`` or ``"refuse"``.
        falls_back: whether the primary may serve reads that no replica can.
        probed: whether the prober is at work.
    """
    causes = []
    shared = not isinstance(reads, str) and reads > 0
    usable = tuple(node.name for node in nodes if node.usable) if reads == "replica" or shared else ()
    if reads == "replica" and not usable and nodes:
        each = "; ".join(f"{node.name}: {node.cause or node.state}" for node in nodes)
        causes.append(f"no replica can serve reads ({each})")
    if state.unreachable:
        causes.append(f"the primary cannot be reached ({state.unreachable})")
    elif state.read_only:
        causes.append("the primary is read-only")
    if writes == "refuse":
        causes.append('writes="refuse"')
    takes_part = reads != "replica" and reads != 1
    stands_in = (takes_part or (not usable and falls_back)) and not state.unreachable
    written = writes == "allow" and not (state.unreachable or state.read_only)
    return Health(
        reads=stands_in if takes_part else bool(usable) or stands_in,
        writes=written,
        read_by=(*usable, primary) if stands_in else usable,
        written_by=primary if written else None,
        cause="; ".join(causes),
        probed=probed,
        nodes=tuple(nodes),
    )
