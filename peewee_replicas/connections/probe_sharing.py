"""Decides for a database which others may share its prober. No I/O, no clock.

In doubt they do not: a finding about the wrong server would send reads there.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..nodes.probe_key import Itself, ProbeKey, frozen
from .plain_database import node_parameters
from .user_database import UserDatabase

# What opening a probe's connection uses of a database. A program's own code may depend there on the schema,
# or on anything else.
_USED = frozenset(
    {
        "_connect", "_initialize_connection", "_new_connection", "_new_for_thread", "_set_server_version",
        "init", "connect_params", "database", "opening", "deferred", "_state", "__getattribute__",
        "__getattr__", "__setattr__",
    }
)  # fmt: skip
# Of these, every database has its own values for the rest.
_METHODS = frozenset(name for name in _USED if name.startswith("_") and name != "_state")
_LIBRARIES = frozenset({"peewee_replicas", "peewee", "playhouse", "builtins", "typing"})
# A proxy may take another name, such as Vitess's `@replica`, for the server that is wanted.
_PLAIN_NAME = re.compile(r"[\w$-]+")


def probe_key(db: UserDatabase, cluster: Cluster, nodes: Sequence[Node], interval: float) -> ProbeKey:
    """Return a value that is equal for databases that may share a prober.

    Parameters:
        db: the user's database.
        cluster: its nodes.
        nodes: those that are probed, the primary first.
        interval: seconds between two probes.
    """
    settings = cluster.settings
    each: list[Hashable] = []
    matters = _is_own(db) or _needs_schema(settings.heartbeat_table)
    schema: object = None
    for place, node in enumerate(nodes):
        database, parameters = node_parameters(db, cluster, node)
        if not place:
            schema = database
        matters = matters or database != schema or _depends_on_schema(database, parameters)
        each.append((node in cluster.replicas.all, frozen(parameters), frozen(database)))
    if not matters:
        each = [parts[:-1] for parts in each if isinstance(parts, tuple)]
    common = (
        type(db),
        Itself(db) if _is_own(db) else None,
        interval,
        settings.heartbeat_table,
        settings.follow_primary,
        settings.max_connection_age,
    )
    return ProbeKey(common, tuple(each), schema)


def _is_own(db: UserDatabase) -> bool:
    """Return whether connections are opened by code of the program's own."""
    own = [base for base in type(db).__mro__ if base.__module__.partition(".")[0] not in _LIBRARIES]
    return any(not _USED.isdisjoint(vars(base)) for base in own) or not _METHODS.isdisjoint(vars(db))


def _needs_schema(heartbeat_table: str | None) -> bool:
    return heartbeat_table is not None and "." not in heartbeat_table


def _depends_on_schema(database: object, parameters: Mapping[str, object]) -> bool:
    command = parameters.get("init_command")
    # Without a parenthesis, a SET can neither call a stored function nor read a table.
    harmless = command is None or (
        isinstance(command, str) and command.lstrip()[:4].upper() == "SET " and "(" not in command
    )
    return not (harmless and isinstance(database, str) and _PLAIN_NAME.fullmatch(database))
