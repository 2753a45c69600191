"""Decides how much of its weight a node gets after joining the rotation. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Hashable

WARM_UP_SECONDS = 10.0
WARM_UP_STEPS = 10


class WarmUp:
    """Raises the weight of a node that came back, step by step, because its caches are cold.

    If no node is warm, all get their full weight at once, because no other node could take the load.

    Parameters:
        seconds: the time to reach the full weight.
        steps: the number of steps; the first is taken at once.
    """

    def __init__(self, seconds: float = WARM_UP_SECONDS, steps: int = WARM_UP_STEPS) -> None:
        self._seconds = seconds
        self._steps = steps
        self._since: dict[Hashable, float] = {}
        self.next_step: float | None = None
        """When to compute the shares again; None while no node warms up."""

    def shares(
        self, usable: Collection[Hashable], before: Collection[Hashable], now: float
    ) -> dict[Hashable, float]:
        """Return, for each usable node, the fraction of its weight that counts now: above 0, up to 1.

        Parameters:
            usable: the nodes in rotation now.
            before: the nodes that were in rotation until now.
            now: a monotonic clock's reading, in seconds.
        """
        for node in list(self._since):
            if node not in usable:
                self._since.pop(node, None)
        for node in usable:
            if node not in before:
                self._since[node] = now
        found: dict[Hashable, float] = dict.fromkeys(usable, 1.0)
        for node, since in list(self._since.items()):
            step = 1 + int((now - since) * self._steps / self._seconds)
            if step < self._steps:
                found[node] = step / self._steps
            else:
                self._since.pop(node, None)
        if len(self._since) == len(found):
            self._since.clear()
            found = dict.fromkeys(found, 1.0)
        self.next_step = now + self._seconds / self._steps if self._since else None
        return found
