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
from .user_database import UserDatabase, is_librarys

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
# A proxy may take another name, such as Vitess's `@replica`, for the server that is wanted.
_PLAIN_NAME = re.compile(r"[\w$-]+")
# Such a SET neither calls a stored function nor reads a table or a sequence, and no other statement follows.
# MariaDB has `SET STATEMENT … FOR CALL p` and `SET @a = NEXT VALUE FOR s`.
_PLAIN_SET = re.compile(r"\s*SET (?!.*\bFOR\b)[^(;]*", re.IGNORECASE | re.DOTALL)


def probe_key(db: UserDatabase, cluster: Cluster, nodes: Sequence[Node], interval: float) -> ProbeKey:
    """Return a value that is equal for databases that may share a prober.

    Parameters:
        db: the user's database.
        cluster: its nodes.
        nodes: those that are probed, the primary first.
        interval: seconds between two probes.
    """
    settings = cluster.settings
    listed = cluster.replicas.all
    common = (
        type(db),
        interval,
        settings.heartbeat_table,
        settings.follow_primary,
        settings.max_connection_age,
    )
    if _is_own(db):
        # The program's own code may make parameters anew each time, or change them before each connection.
        return ProbeKey((*common, Itself(db)), tuple((node in listed, Itself(node)) for node in nodes), None)
    each: list[tuple[Hashable, ...]] = []
    matters = _needs_schema(settings.heartbeat_table)
    schema: object = None
    for place, node in enumerate(nodes):
        database, parameters = node_parameters(db, cluster, node)
        if not place:
            schema = database
        matters = matters or database != schema or _depends_on_schema(database, parameters)
        each.append((node in listed, frozen(parameters), frozen(database)))
    return ProbeKey(common, tuple(each if matters else (parts[:-1] for parts in each)), schema)


def _is_own(db: UserDatabase) -> bool:
    """Return whether connections are opened by code of the program's own."""
    own = [base for base in type(db).__mro__ if base is not object and not is_librarys(base)]
    return any(not _USED.isdisjoint(vars(base)) for base in own) or not _METHODS.isdisjoint(vars(db))


def _needs_schema(heartbeat_table: str | None) -> bool:
    return heartbeat_table is not None and "." not in heartbeat_table


def _depends_on_schema(database: object, parameters: Mapping[str, object]) -> bool:
    command = parameters.get("init_command")
    harmless = command is None or (isinstance(command, str) and _PLAIN_SET.fullmatch(command) is not None)
    return not (harmless and isinstance(database, str) and _PLAIN_NAME.fullmatch(database))
