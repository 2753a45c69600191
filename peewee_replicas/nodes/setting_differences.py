"""Logs settings that differ between nodes, once, because the same query may then return different rows."""

from __future__ import annotations

from ..concurrency import new_lock
from ..log import log_event


class Comparison:
    """Holds the settings of one database's nodes, as read from their first connections."""

    def __init__(self) -> None:
        self._compared: dict[str, dict[str, object]] = {}
        self._given_up: set[str] = set()
        self._lock = new_lock()

    def needed(self, name: str) -> bool:
        """Return whether this node's settings still have to be read."""
        return name not in self._compared and name not in self._given_up

    def give_up(self, name: str) -> None:
        """Stop asking this node, because the question cost a connection."""
        self._given_up.add(name)

    def add(self, name: str, settings: dict[str, object]) -> None:
        """Log, once per node, which settings differ from those of the first node connected to."""
        with self._lock:
            if name in self._compared:
                return
            first = next(iter(list(self._compared)), name)
            self._compared[name] = settings
            known = self._compared.get(first, settings)
        for setting, mine in settings.items():
            theirs = known.get(setting)
            if mine != theirs:
                log_event(
                    "settings_differ",
                    "%s differs between nodes, so the same SELECT may return different rows: "
                    "%r on %s, %r on %s",
                    setting, mine, name, theirs, first,
                    node=name, cause=f"{setting} differs from {first}'s",
                )  # fmt: skip

    def forget_primary(self) -> None:
        """Forget the primary's settings, because another server is the primary now."""
        with self._lock:
            self._compared.pop("primary", None)
            self._given_up.discard("primary")

    def keep(self, names: set[str]) -> None:
        """Forget all nodes except these."""
        with self._lock:
            for name in set(self._compared) - names:
                self._compared.pop(name, None)
            self._given_up &= names
