"""Decides which nodes serve reads after the primary has moved, and what they inherit. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .spec import ALIASES, NodeSpec, overlay

Same = Callable[[NodeSpec, NodeSpec], bool]
"""Returns whether two specs lead to one endpoint."""


class Moved(NamedTuple):
    """The node that takes the writes, once the primary has moved for the first time.

    Attributes:
        spec: the node.
        database, parameters: the configured primary's, which the nodes inherit.
        own: the names of parameters that the present or an earlier node had of its own while it was primary.
    """

    spec: NodeSpec
    database: object
    parameters: Mapping[str, object]
    own: frozenset[str]

    def __repr__(self) -> str:
        # Some tracebacks show local variables, and must not show a password.
        return f"Moved(spec={self.spec!r})"

    @classmethod
    def to(
        cls, spec: NodeSpec, database: object, present: Mapping[str, object], before: Moved | None
    ) -> Moved:
        """Return the value for a move.

        Parameters:
            spec: the node that takes the writes from now on.
            database, present: the database and the parameters in use for the primary until now.
            before: the value of the last move, if there was one.
        """
        own = frozenset({"host", "port", "unix_socket", *spec.overrides})
        own |= {alias for alias, name in ALIASES.items() if name in spec.overrides}
        if before is None:
            return cls(spec, database, dict(present), own)
        return cls(spec, before.database, before.configured(present), before.own | own)

    def configured(self, present: Mapping[str, object]) -> dict[str, object]:
        """Return the connection parameters that nodes inherit.

        Parameters:
            present: the parameters in use for the primary. If the program has changed one of them since, such
                as the password, that counts for all nodes, unless the primary's node has its own.
        """
        kept = {name: value for name, value in present.items() if name not in self.own}
        return {**kept, **{name: value for name, value in self.parameters.items() if name in self.own}}

    def present(self) -> dict[str, object]:
        """Return the connection parameters of the node that takes the writes."""
        return overlay(self.parameters, self.spec.overrides)


def all_nodes(configured: NodeSpec, listed: Sequence[NodeSpec], same: Same) -> tuple[NodeSpec, ...]:
    """Return every node that can be the primary: the configured primary and those listed.

    Parameters:
        configured: the configured primary, as a replica.
        listed: the nodes of the argument ``replicas``.
        same: returns whether two specs lead to one endpoint.
    """
    return tuple(listed) if _is_listed(configured, listed, same) else (configured, *listed)


def readers(
    configured: NodeSpec, listed: Sequence[NodeSpec], primary: NodeSpec | None, same: Same
) -> tuple[NodeSpec, ...]:
    """Return the nodes that serve reads.

    If the configured primary is listed, the list is the answer, whoever takes the writes. If not, the primary
    is to take no reads, so the configured primary and the present one trade places.

    Parameters:
        primary: the node that takes the writes; None: the configured primary does.
        configured, listed, same: as for `all_nodes`.
    """
    if primary is None or same(configured, primary) or _is_listed(configured, listed, same):
        return tuple(listed)
    return (configured, *(spec for spec in listed if not same(primary, spec)))


def _is_listed(configured: NodeSpec, listed: Sequence[NodeSpec], same: Same) -> bool:
    return any(same(configured, spec) for spec in listed)
