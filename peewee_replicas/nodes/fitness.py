"""What the answers of a node mean: its role, and whether reads may go there. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .interview import Facts
from .lag import Samples

NodeRole = Literal["primary", "replica", "member", "detached"]
"""What a node is found to be: ``"member"`` of a cluster that replicates by other means than channels;
``"detached"`` replicates from nobody, or has writes of its own."""
State = Literal["up", "lagging", "unfit"]


class Fitness(NamedTuple):
    """What a probe has found out about a node.

    Attributes:
        state: ``"up"``, or why no reads go there: ``"lagging"``, or ``"unfit"`` to be a replica at all.
        cause: in words, or ``""``.
        role: what it is found to be.
        lag: seconds, or None where that is not known.
        remark: what an operator should look at, though reads go there; or ``""``.
    """

    state: State
    cause: str
    role: NodeRole
    lag: float | None
    remark: str = ""


def assess(
    told: Facts, *, is_primary: bool, listed: bool, diverged: bool, lag: float | None, doubt: bool,
    samples: Samples, max_lag: float | None,
) -> Fitness:  # fmt: skip
    """Whether a node may serve reads, and as what.

    Parameters:
        told: what it has answered.
        is_primary: whether it is the primary itself; `listed`: whether it was given as such.
        diverged: whether it has writes of its own that do not arrive at the primary.
        lag: seconds by which it is behind; None: not known.
        doubt: whether it was not seen to reach anything that the primary is known to have.
        samples: of the primary.
        max_lag: the bound; None: there is none.
    """
    if told.offline:
        return Fitness("unfit", "offline_mode is ON", "primary" if is_primary else "replica", lag)
    if is_primary:
        remark = "" if listed else "is the primary itself, by another address"
        return Fitness("up", "", "primary", 0.0, remark)
    role, obstacle = _role(told, diverged, samples)
    if obstacle:
        return Fitness("unfit", obstacle, role, None)
    remark = (
        "" if told.read_only or role == "member" else "has read_only=OFF: a write there would not be refused"
    )
    if lag is None and told.channels:
        behind = [each.behind for each in told.channels if each.behind is not None]
        lag = max(behind) if behind else None
    if max_lag is not None and lag is not None and lag > max_lag:
        return Fitness("lagging", f"{lag:.1f} s behind, more than max_lag={max_lag}", role, lag, remark)
    if max_lag is not None and lag is None and doubt:
        cause = "has not been seen to reach anything the primary is known to have, so its lag is not known"
        return Fitness("lagging", cause, role, None, remark)
    return Fitness("up", "", role, lag, remark)


def _role(told: Facts, diverged: bool, samples: Samples) -> tuple[NodeRole, str]:
    """What the node is, and why it is no replica of the primary now, or ``""``."""
    if told.member:
        return "member", ""
    if told.channels is None:
        if diverged and not told.read_only:
            return "detached", "takes writes of its own, which the primary does not have; was it promoted?"
        return "replica", ""
    if not told.channels:
        promoted = "" if told.read_only else " and takes writes (read_only=OFF); was it promoted?"
        return "detached", f"replicates from nobody{promoted}"
    for each in told.channels:
        because = f": {each.error}" if each.error else ""
        if not each.applies:
            return "replica", f"replication is stopped, nothing is applied{because}"
        # Some servers give up on a primary that is gone; then there is nothing to be behind of.
        if not each.receives and samples.answers:
            return "replica", f"replication is stopped, nothing is received{because}"
    return "replica", ""


def role_change(told: Facts, server: tuple[str, str] | None, read_only: bool | None) -> str:
    """Why connections to the primary's address may lead to a primary that is none any more, or ``""``.

    Parameters:
        told: what has answered there.
        server: who answered there before; None: nobody yet.
        read_only: whether that was read-only.
    """
    if server is None or told.member:  # in a cluster of members any may answer
        return ""
    if told.itself != server:
        return "is another server now"
    return "is read-only now" if told.read_only and read_only is False else ""
