"""Decides whether a node's data comes from the primary. No I/O, no clock.

A server measures its lag against its own source. So a replica of another primary reports no lag, and only
comparing its source with the primary shows that its rows come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..servers.identity import ServerIdentity
from .interview import Channel, Facts, Source

Relation = Literal["primary", "other", "unlisted", "unclear"]
"""Where a node's data comes from: ``"primary"``: from the primary, directly or through other listed nodes;
``"other"``: from a listed node that does not follow the primary; ``"unlisted"``: from a server that is not
the primary and is not listed, so it may be a link of a chain or another primary; ``"unclear"``: the answers
are not enough to compare."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Peer(NamedTuple):
    """Another node of the same database.

    Attributes:
        label: its name and address, for messages.
        address: where this process reaches it, as ``host:port`` or a socket's path.
        told: its last answers; None: it has not answered yet.
    """

    label: str
    address: str
    told: Facts | None


class Upstream(NamedTuple):
    """Where a node's data comes from.

    Attributes:
        relation: how that source relates to the primary.
        channels: the channels that count for the node; the others have nothing to do with the primary.
    """

    relation: Relation
    channels: tuple[Channel, ...]

    @property
    def sources(self) -> str:
        """The sources of these channels, in words."""
        return ", ".join(dict.fromkeys(str(channel.source) for channel in self.channels))


def is_same(source: Source, server: ServerIdentity, address: str, follower: ServerIdentity) -> bool | None:
    """Return whether a channel's source is that server; None if the answers are not enough to decide.

    Parameters:
        address: where this process reaches the server.
        follower: the server that has the channel.
    """
    if source.uuid and server.uuid:
        return source.uuid.lower() == server.uuid.lower()
    ids_told = source.server_id not in ("", "0") and server.server_id not in ("", "0")
    if ids_told and source.server_id != server.server_id:
        return False
    host = source.host.lower()
    if str(source).lower() == address.lower() or (host, source.port) == (
        server.hostname.lower(),
        server.port,
    ):
        return True
    # Ports distinguish servers on one machine. Between machines, ports may be mapped and hosts be aliased.
    on_one_machine = follower.hostname == server.hostname and host in {*_LOOPBACK, server.hostname.lower()}
    if on_one_machine and source.port != server.port:
        return False
    return None


def upstream(told: Facts, primary: Peer, others: Sequence[Peer], *, complete: bool) -> Upstream:
    """Return where a node's data comes from.

    Parameters:
        told: the node's answers.
        primary: the primary.
        others: all nodes except the node and the primary.
        complete: whether each of `others` has been asked; a node not asked yet may be a link of a chain.
    """
    channels = told.channels or ()
    if primary.told is None:
        # Only its address is known. A channel that leads there counts; whether others do cannot be decided.
        unknown = ServerIdentity("", "", "", "")
        direct = tuple(c for c in channels if is_same(c.source, unknown, primary.address, told.server))
        return Upstream("unclear", direct or channels)
    if primary.told.member or told.member:
        return Upstream("unclear", channels)
    found = [(_relation(channel, told, primary, others), channel) for channel in channels]
    relations: tuple[Relation, ...] = ("primary", "unclear", "unlisted", "other")  # best first
    for relation in relations:
        of_it = tuple(channel for each, channel in found if each == relation)
        if of_it:
            known: Relation = "unclear" if relation == "unlisted" and not complete else relation
            return Upstream(known, of_it)
    return Upstream("unclear", channels)


def _relation(channel: Channel, told: Facts, primary: Peer, others: Sequence[Peer]) -> Relation:
    assert primary.told is not None
    source = channel.source
    direct = is_same(source, primary.told.server, primary.address, told.server)
    # If the primary itself is a replica, nodes that share its source have data as good as its own.
    siblings = primary.told.channels or ()
    if direct or any(_same_source(source, sibling.source) for sibling in siblings):
        return "primary"
    for peer in others:
        server = peer.told.server if peer.told is not None else ServerIdentity("", "", "", "")
        if not is_same(source, server, peer.address, told.server):
            continue
        if server.server_id and server == primary.told.server:
            return "primary"  # which is listed by another address too
        if peer.told is None or peer.told.channels is None:
            return "unclear"
        rest = [other for other in others if other is not peer]
        above = {_relation(up, peer.told, primary, rest) for up in peer.told.channels}
        relations: tuple[Relation, ...] = ("primary", "unclear", "unlisted")
        return next((relation for relation in relations if relation in above), "other")
    if direct is None:
        return "unclear"
    # Server ids are unique within a topology, so a source with the primary's id belongs to another topology.
    return "other" if not source.uuid and source.server_id == primary.told.server.server_id else "unlisted"


def _same_source(one: Source, other: Source) -> bool:
    if one.uuid and other.uuid:
        return one.uuid.lower() == other.uuid.lower()
    return one.server_id == other.server_id and str(one).lower() == str(other).lower()


def same_server(told: Facts, earlier: Sequence[Peer]) -> str:
    """Return the label of a node listed earlier that is the same server, or ``""``."""
    if not told.server.server_id:
        return ""
    return next(
        (peer.label for peer in earlier if peer.told is not None and peer.told.server == told.server), ""
    )
