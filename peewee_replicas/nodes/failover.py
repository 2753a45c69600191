"""Decides from the probes' answers which node is the primary now. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .interview import Facts
from .upstream import Peer, is_same, upstream


class Seen(NamedTuple):
    """One node in one look at all of them.

    Attributes:
        name: its name; for the primary that is not listed, ``"primary"``.
        label: its name and address, for messages.
        address: where this process reaches it.
        told: its answers to questions asked since the last look; None: there were none.
    """

    name: str
    label: str
    address: str
    told: Facts | None


class Finding(NamedTuple):
    """What one look has shown.

    Attributes:
        primary: the name of the node that is the primary by the rule; ``""`` if none is.
        words: why it is, or why none is.
        leaders: the labels of the nodes that take writes and replicate from nobody.
    """

    primary: str = ""
    words: str = "no node has been probed yet"
    leaders: tuple[str, ...] = ()


NOTHING_SEEN = Finding()


def find_primary(nodes: Sequence[Seen]) -> Finding:
    """Return which node is the primary: the only one that takes writes, if all others replicate from it.

    A node that does not answer says nothing for anybody. Together the primary and those that replicate from
    it must be more than half of all nodes, so a part of the servers that is cut off from the rest never
    decides, and neither does the silence of the old primary.

    Parameters:
        nodes: all nodes, the present primary first.
    """
    distinct = _distinct(nodes)
    answered = [node for node in distinct if node.told is not None]
    leaders = [node for node in answered if node.told is not None and _leads(node.told)]
    labels = tuple(node.label for node in leaders)
    if not leaders:
        return Finding("", "no node is known to take writes", labels)
    if len(leaders) > 1:
        return Finding("", f"{_listing(labels)} all take writes", labels)
    leader = leaders[0]
    followers = []
    for node in answered:
        if node is not leader:
            doubt = _why_not_following(node, leader, answered)
            if doubt:
                return Finding("", f"{leader.label} takes writes, but {node.label} {doubt}", labels)
            followers.append(node.label)
    if 2 * (1 + len(followers)) <= len(distinct):
        silent = _listing([node.label for node in distinct if node.told is None])
        return Finding("", f"{leader.label} takes writes, but {silent} did not answer", labels)
    following = f", and {_listing(followers)} replicate from it" if followers else ""
    return Finding(leader.name, f"it takes writes{following}", labels)


class FailoverWatch:
    """Keeps the findings of successive looks.

    Attributes:
        finding: the last one.
    """

    def __init__(self) -> None:
        self.finding = NOTHING_SEEN

    def look(self, nodes: Sequence[Seen]) -> Finding | None:
        """Return the finding if it names the same new primary for the second time in a row, else None.

        Parameters:
            nodes: all nodes, the present primary first.
        """
        before, self.finding = self.finding, find_primary(nodes)
        found = self.finding.primary
        return self.finding if found not in ("", nodes[0].name) and found == before.primary else None


def _distinct(nodes: Sequence[Seen]) -> list[Seen]:
    """Return the nodes without those that are the same server as an earlier one, under another address."""
    kept: list[Seen] = []
    for node in nodes:
        told = node.told
        known = [other.told.server for other in kept if other.told is not None]
        if told is None or not told.server.server_id or told.server not in known:
            kept.append(node)
    return kept


def _leads(told: Facts) -> bool:
    """Return whether a server takes writes and replicates from nobody."""
    if told.read_only or told.offline:
        return False
    if told.member:
        return told.galera or told.group_role != "SECONDARY"
    return told.channels is not None and not any(one.receives or one.applies for one in told.channels)


def _why_not_following(node: Seen, leader: Seen, answered: Sequence[Seen]) -> str:
    """Return in words why a node does not count as a replica of the leader; ``""`` if it does."""
    told, first = node.told, leader.told
    assert told is not None
    assert first is not None
    if told.member or first.member:
        same = told.variables.get("group_replication_group_name")
        in_group = bool(same) and same == first.variables.get("group_replication_group_name")
        states = (told.group_state, told.group_role, first.group_state, first.group_role)
        if in_group and states == ("ONLINE", "SECONDARY", "ONLINE", "PRIMARY"):
            return ""
        return "is not known to be a secondary of its replication group"
    if told.channels is None:
        return "does not tell whom it follows (this needs REPLICATION CLIENT, on MariaDB SLAVE MONITOR)"
    running = tuple(one for one in told.channels if one.receives)
    if not running:
        return "replicates from nobody"
    # The leader's stopped channel may still name the old primary, and a node that follows that one is none.
    head = Peer(leader.label, leader.address, first._replace(channels=()))
    peers = [
        Peer(one.label, one.address, one.told) for one in answered if one is not leader and one is not node
    ]
    found = upstream(told._replace(channels=running), head, peers, complete=True)
    if found.relation == "primary":
        return ""
    ids = [one.told.server.server_id for one in answered if one.told is not None]
    for channel in found.channels:
        # Hosts and ports may differ between the networks; server ids are unique among servers that replicate.
        own = first.server.server_id
        alike = bool(own) and own != "0" and channel.source.server_id == own and ids.count(own) == 1
        if alike and is_same(channel.source, first.server, leader.address, told.server) is not False:
            return ""
    return f"replicates from {found.sources}"


def _listing(labels: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(labels[:-1]), *labels[-1:]) if part)
