"""Decides whether reads may go to a node, and in which role. No I/O, no clock."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..servers.identity import ServerIdentity
from .interview import Channel, Facts
from .upstream import Upstream

NodeRole = Literal["primary", "replica", "member", "detached"]
"""The role that a probe found. ``"member"``: the node belongs to a cluster that replicates by other means
than channels, such as Galera; ``"detached"``: it replicates from nobody or from another primary, or takes
writes of its own."""
State = Literal["up", "lagging", "unfit"]

RESPITE_SECONDS = 60.0
"""With ``max_lag=None``, how long a node may serve that has stopped following a silent primary."""

_UNSEEN = (
    "; this user may not see whom it follows: grant it REPLICATION CLIENT (MariaDB: SLAVE MONITOR), or set "
    "heartbeat_table"
)
ANOTHER_SERVER = "is another server now"
"""Why connections to the primary are made anew, in words: its address leads elsewhere."""

_SHOWN = 100  # characters of a list of transactions


class Fitness(NamedTuple):
    """The verdict on a node after a probe.

    Attributes:
        state: ``"up"``, or why no reads go there: ``"lagging"``, or ``"unfit"`` to be a replica at all.
        cause: why the state is not ``"up"``, in words; or ``""``.
        role: the role that the probe found.
        lag: seconds, or None if unknown.
        remark: a problem to log that does not keep reads away; or ``""``.
    """

    state: State
    cause: str
    role: NodeRole
    lag: float | None
    remark: str = ""


class Evidence(NamedTuple):
    """What is known of a node after a probe, from its own answers and other nodes'.

    Attributes:
        told: the node's answers.
        is_primary: whether the node is the primary itself.
        listed: whether the node was configured as the primary.
        primary: the primary's name and address, for messages.
        primary_answers: whether the primary answers.
        upstream: where the node's data comes from.
        lag: seconds by which the node lags the primary, by positions or heartbeats; None: not known.
        doubt: why the node was never seen to reach a position of the primary's, if it was not; or ``""``.
        proven: the primary's writes are known to arrive at the node through its present sources.
        own: the node's own transactions that the primary lacks, as text, or ``""``.
        others: other servers' transactions that the primary lacks, as text, or ``""``.
        twin: the label of a node listed earlier that is the same server, or ``""``.
        unmeasured: the primary has answered, and the two servers have no positions to compare.
    """

    told: Facts
    is_primary: bool
    listed: bool
    primary: str
    primary_answers: bool
    upstream: Upstream
    lag: float | None
    doubt: str
    proven: bool = False
    own: str = ""
    others: str = ""
    twin: str = ""
    unmeasured: bool = False


def assess(found: Evidence, max_lag: float | None) -> Fitness:
    """Decide whether a node may serve reads, and in which role.

    Parameters:
        max_lag: the bound in seconds; None: no bound.
    """
    told, lag = found.told, found.lag
    # Checked first, because a server in offline mode refuses users even if it is the primary.
    if told.offline:
        return Fitness("unfit", "offline_mode is ON", "primary" if found.is_primary else "replica", lag)
    if found.is_primary:
        remark = "" if found.listed else "is the primary itself, by another address"
        return Fitness("up", "", "primary", 0.0, remark)
    role, obstacle = _role(found)
    if obstacle:
        return Fitness("unfit", obstacle, role, None)
    remarks = _remarks(found, role)
    where = ""
    # The server measures the lag it reports against its own source. If that is not known to be the primary,
    # the reported lag counts only if nothing better is available.
    if lag is None and (not found.doubt or found.upstream.relation == "primary"):
        behind = [(each.behind, each) for each in found.upstream.channels if each.behind is not None]
        if behind:
            lag, latest = max(behind, key=lambda pair: pair[0])
            where = _name(latest, found)
    if lag is None and max_lag is not None:
        remarks += _unmeasured(found, max_lag)
    remark = "; ".join(remarks)
    if max_lag is not None and lag is not None and lag > max_lag:
        cause = f"{lag:.1f} s behind{where}, more than max_lag={max_lag}"
        return Fitness("lagging", cause, role, lag, remark)
    if max_lag is not None and lag is None and found.doubt:
        unseen = "" if told.channels is not None else _UNSEEN
        return Fitness("lagging", f"{found.doubt}. Its lag is not known{unseen}", role, None, remark)
    return Fitness("up", "", role, lag, remark)


def respite(found: Fitness, told: Facts, lag: float, max_lag: float | None) -> Fitness:
    """Let a node that has stopped following a silent primary go on serving reads for a while.

    In a failover, replicas stop, and follow the next primary, before anybody can know that it is the primary.
    Their rows are still the silent primary's, and reads would find no other node.

    Parameters:
        found: the verdict on the node.
        told: its answers.
        lag: seconds by which it can be behind at most, because it was fit so short a time ago.
        max_lag: the bound in seconds; None: no bound.
    """
    if told.offline or told.member or lag > (RESPITE_SECONDS if max_lag is None else max_lag):
        return found
    remark = f"{found.cause}; the primary does not answer, so reads go on there until they would be too old"
    return Fitness("up", "", found.role, lag, remark)


def _role(found: Evidence) -> tuple[NodeRole, str]:
    """Return the node's role, and why it is no replica of the primary now, or ``""``."""
    told, relation = found.told, found.upstream.relation
    # In a Galera cluster every member gets all writes, so sources and positions do not show its role.
    if told.member:
        if told.group_state not in ("", "ONLINE"):
            return "member", f"is {told.group_state} in its replication group"
        return "member", ""
    if told.channels is None:
        if found.own and not told.read_only:
            return "detached", "takes writes of its own, which the primary does not have; was it promoted?"
        if _incomparable(found):
            return "detached", f"seems to follow another server than {found.primary}: {_foreign(found)}"
        return "replica", ""
    if not told.channels:
        promoted = "" if told.read_only else " and takes writes (read_only=OFF); was it promoted?"
        return "detached", f"replicates from nobody{promoted}"
    words = f"replicates from {found.upstream.sources}, and not from {found.primary}"
    if relation == "other":
        return "detached", words
    if relation == "unlisted" and (found.others or not found.proven):
        if found.others:
            return "detached", f"{words}: {_foreign(found)}"
        hint = "list it, with weight=0 if need be, if it follows the primary"
        return "detached", f"{words}; it is not known whom that server follows: {hint}"
    if relation == "unclear" and _incomparable(found):
        return "detached", f"{words}: {_foreign(found)}"
    if len(told.channels) > len(found.upstream.channels) and _incomparable(found):
        # The other source's sequence numbers would count as the primary's.
        hint = "set another gtid_domain_id there"
        return "detached", f"another source uses the primary's GTID domain, {_foreign(found)}: {hint}"
    return "replica", _stopped(found)


def _incomparable(found: Evidence) -> bool:
    """Return whether positions cannot be compared, because both servers may have used the same GTIDs."""
    return bool(found.others) and not found.told.dialect.EXACT_POSITIONS


def _stopped(found: Evidence) -> str:
    """Return why a replica no longer receives or applies anything, or ``""``."""
    for each in found.upstream.channels:
        because = f": {each.error}" if each.error else ""
        what = f"replication is stopped{_name(each, found)}"
        if not each.applies:
            return f"{what}, nothing is applied{because}"
        # Some servers stop receiving while the primary is down; no data is missing then.
        if not each.receives and found.primary_answers:
            return f"{what}, nothing is received{because}"
    return ""


def _name(channel: Channel, found: Evidence) -> str:
    """Return which channel it is, in words; ``""`` if it is the node's only channel, without a name."""
    if channel.name:
        return f" (channel {channel.name!r}, from {channel.source})"
    return f" (the channel from {channel.source})" if len(found.told.channels or ()) > 1 else ""


def _foreign(found: Evidence) -> str:
    return f"it has {_shortened(found.others)}, which the primary does not have"


def _remarks(found: Evidence, role: NodeRole) -> list[str]:
    """Return problems to log that do not keep reads away."""
    remarks = []
    if found.twin:
        remarks.append(f"is the same server as {found.twin}, which is listed too: it gets the reads of both")
    if role == "member":
        return remarks
    if not found.told.read_only:
        remarks.append("has read_only=OFF: a write there would not be refused")
    if found.own:
        remarks.append(
            f"has transactions of its own that the primary does not have ({_shortened(found.own)}): "
            "it was written to, so its rows may differ"
        )
    # A replica with several sources is expected to have such transactions.
    if found.others and len(found.told.channels or ()) == 1:
        remarks.append(f"has transactions that the primary does not have ({_shortened(found.others)})")
    return remarks


def _unmeasured(found: Evidence, max_lag: float) -> list[str]:
    """Return why `max_lag` cannot have an effect, if it cannot; an unknown lag may also become known."""
    if not found.unmeasured or found.upstream.channels:
        return []
    if found.told.member:
        why = "a member of a Galera cluster does not report it; set heartbeat_table"
    else:
        whose = "it keeps" if found.told.position is None else f"{found.primary} keeps"
        why = (
            f"{whose} no GTIDs ({found.told.dialect.WITHOUT_GTIDS}), and this user may not see the node's "
            "replication; turn GTIDs on, grant the user REPLICATION CLIENT (MariaDB: SLAVE MONITOR), or set "
            "heartbeat_table"
        )
    return [f"has an unknown lag, so max_lag={max_lag} does not keep reads away from it: {why}"]


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def role_change(told: Facts, server: ServerIdentity | None, read_only: bool | None) -> str:
    """Return why the primary's address may now lead to a server that is not the primary, or ``""``.

    Parameters:
        told: the answers of the server there now.
        server: the server that answered before; None: none yet.
        read_only: whether the primary was read-only before; None: not known.
    """
    if told.member:  # in a Galera cluster any member may answer
        return ""
    if server is not None and told.server != server:
        return ANOTHER_SERVER
    return "is read-only now" if told.read_only and read_only is False else ""


def primary_remark(told: Facts) -> str:
    """Return a problem to log about the server used as the primary, or ``""``."""
    if told.group_role == "SECONDARY":
        return "is a secondary of its replication group and takes no writes: should `host` lead elsewhere?"
    if told.member or not told.read_only:
        return ""
    sources = ", ".join(dict.fromkeys(str(channel.source) for channel in told.channels or ()))
    if sources:
        return (
            f"is a replica of {sources} and takes no writes (read_only=ON): should `host` lead there instead?"
        )
    return "has read_only=ON: it takes no writes"
