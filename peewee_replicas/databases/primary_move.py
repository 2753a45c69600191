"""Move a database's primary to another of its nodes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from ..connections.opening import Opening
from ..connections.parts import Parts
from ..connections.plain_database import PlainDatabase
from ..errors import ConfigurationError
from ..log import log_event
from ..nodes.cluster import Cluster
from ..nodes.primary_state import UNKNOWN
from ..nodes.roles import Moved
from ..nodes.spec import NodeSpec, address, did_you_mean, endpoint
from ..statements.redaction import shown
from .assembly import Assembly

GRACE_SECONDS = 1.0
"""Seconds that a statement may go on running on the old primary before its connection is cut."""


def move_primary(
    plain: PlainDatabase,
    assembly: Assembly,
    parts: Parts,
    listed: Callable[[], tuple[NodeSpec, ...]],
    name: object,
    why: str,
) -> bool:
    """Let writes go to another node from now on; return False if they already go there.

    Nothing moves either if ``init()`` has been called meanwhile.

    Parameters:
        plain, assembly, parts: the user's database without routing, and its collaborators.
        listed: returns the nodes of the argument ``replicas``.
        name: the node's name.
        why: the reason for the log and the event, in words.

    Raises:
        ConfigurationError: there is no such node, or the primary of this database cannot move.
    """
    cluster = parts.cluster
    if cluster.immovable:
        raise ConfigurationError(f"set_primary(): {cluster.immovable}")
    with cluster.membership_lock:
        if cluster.replaced:
            return False
        specs = listed()
        spec = _find(assembly.all_nodes(specs), name)
        old = cluster.reader
        if assembly.is_primary(spec) and old.address == address(plain.db.connect_params):
            return False
        if not assembly.is_primary(spec):  # else an interrupt has left the nodes as they were
            _turn_to(plain, assembly, parts, spec)
        assembly.change_nodes(specs, cluster)
        new = cluster.reader
        assembly.primary_has_moved()
    cluster.counters.add("primary_changes")
    label = spec.name if spec.name == new.address else f"{spec.name} ({new.address})"
    log_event(
        "primary_moved", "%s is the primary now, in place of %s: %s", label, old.address, why,
        node=spec.name, cause=why,
    )  # fmt: skip
    cluster.news.tell(spec, "primary", f"in place of {old.address}: {why}")
    _leave_behind(plain.db.opening, cluster)
    return True


def _find(nodes: tuple[NodeSpec, ...], name: object) -> NodeSpec:
    for spec in nodes:
        if spec.name == name:
            return spec
    names = [spec.name for spec in nodes]
    raise ConfigurationError(
        f"set_primary({shown(name)}): the nodes are {', '.join(map(repr, names))}{did_you_mean(name, names)}"
    )


def _turn_to(plain: PlainDatabase, assembly: Assembly, parts: Parts, spec: NodeSpec) -> None:
    """Let new connections lead to a node, and outdate the present ones. The order of the steps matters."""
    db, cluster = plain.db, parts.cluster
    chosen = spec._replace(overrides=assembly.primary_overrides(spec))
    moved = Moved.to(chosen, db.database, db.connect_params, cluster.moved)
    present = moved.present()
    database = present.pop("database", moved.database)
    cluster.moved = moved  # before the parameters: see `NodeDatabase.follow`
    try:
        db.database, db.connect_params = database, present
        parts.consistency.follow_primary(endpoint(present))
        cluster.primary_state, cluster.writes = UNKNOWN, "unseen"
        cluster.settings_met.forget_primary()
    finally:
        # After the parameters, or a new connection to the old primary could count as one to the new. Also
        # after an interrupt: some threads must not go on writing to the old primary.
        cluster.outdate_connections(moved=True)


def _leave_behind(opening: Opening, cluster: Cluster) -> None:
    """Cut the connections to the old primary that no thread will replace by itself."""
    if not opening.leave_behind(all_of_them=False):
        return
    timer = threading.Timer(GRACE_SECONDS, _cut, [weakref.ref(opening)])
    timer.name = f"end of the old primary of {cluster.news.database}"
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # no more threads, or the interpreter is ending
        opening.leave_behind(all_of_them=True)


def _cut(reference: Callable[[], Opening | None]) -> None:
    opening = reference()
    if opening is not None:
        opening.leave_behind(all_of_them=True)
