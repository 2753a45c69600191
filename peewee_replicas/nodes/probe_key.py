"""Tells which databases of one process would find the same when they probe. No I/O, no clock."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping

_BY_VALUE = frozenset({str, bytes, int, float, bool, type(None)})


class ProbeKey:
    """Equal for databases whose probes would be sent in the same way to the same nodes.

    Parameters:
        common: what a probe depends on at every node.
        nodes: what it depends on at each node, the primary first.
        schema: the schema in use, which probes do not depend on.

    Attributes:
        nodes, schema: as given.
    """

    __slots__ = ("_common", "_hash", "nodes", "schema")

    def __init__(self, common: Hashable, nodes: tuple[Hashable, ...], schema: object) -> None:
        self._common = common
        self.nodes = nodes
        self.schema = schema
        self._hash = hash((common, nodes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProbeKey) and (self._common, self.nodes) == (other._common, other.nodes)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        # Some tracebacks show local variables, and must not show a password.
        return f"<ProbeKey of {len(self.nodes)} nodes>"


class Itself:
    """Equal to another one only if both are about the same object, which it does not keep alive.

    So what a program passes in, such as a callable for passwords, is never compared by its own methods.
    """

    __slots__ = ("_get", "_hash")

    def __init__(self, thing: object) -> None:
        self._hash = id(thing)
        self._get: Callable[[], object | None]
        try:
            self._get = weakref.ref(thing)
        except TypeError:  # some types have no weak references
            self._get = lambda: thing

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Itself):
            return False
        thing = self._get()
        return self is other or (thing is not None and thing is other._get())

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return "<Itself>"


def frozen(value: object) -> Hashable:
    """Return what is equal for two values only if a driver certainly does the same with both."""
    kind = type(value)
    if kind in _BY_VALUE:
        return kind, value
    if isinstance(value, Mapping) and kind is dict:
        return kind, frozenset((frozen(name), frozen(value[name])) for name in value)
    if isinstance(value, (list, tuple)) and kind in (list, tuple):
        return kind, tuple(frozen(item) for item in value)
    return Itself(value)
