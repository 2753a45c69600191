"""Keeps what is known of the primary's ability to serve. No I/O, no clock."""

from __future__ import annotations

from typing import NamedTuple

FORGET_SECONDS = 5.0
"""Seconds after which a bad finding is forgotten while nobody probes: only the next statement can tell."""


class PrimaryState(NamedTuple):
    """The last finding about the primary. Each new finding replaces it, whoever made it.

    Attributes:
        unreachable: why no connection to it can be opened, in words; or ``""``.
        read_only: whether it refuses writes.
        found_at: when this was found, by a monotonic clock in seconds.
    """

    unreachable: str = ""
    read_only: bool = False
    found_at: float = 0.0

    def current(self, now: float, *, probed: bool) -> PrimaryState:
        """Return this finding, or an empty one if it is too old to go by.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            probed: whether the prober is at work, which replaces each finding that no longer holds.
        """
        return self if probed or now - self.found_at < FORGET_SECONDS else PrimaryState()


UNKNOWN = PrimaryState()
"""Nothing is known against the primary."""
