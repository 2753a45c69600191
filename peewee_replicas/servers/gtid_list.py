"""MariaDB's positions: GTID lists. No I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .position import Position, malformed, mixed

MAX_ID: Final = 2**32 - 1  # domains and server ids
MAX_SEQUENCE: Final = 2**64 - 1


class MariaDBGTID(NamedTuple):
    """One GTID of MariaDB."""

    domain: int
    server: int
    sequence: int


_MARIADB_GTID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})-([0-9]{1,20})")


class MariaDBPosition(Position):
    """A GTID list: the last sequence number in each domain.

    Only domain and sequence number are compared, as the server does; the server id is kept for the text and
    for `recorded_in`. Every node has reached sequence number 0, so it is left out.

    Parameters:
        gtids: at most one per domain. Raises ``ValueError`` for two, or for a number out of range.
    """

    __slots__ = ("_last",)

    _last: dict[int, tuple[int, int]]  # domain -> sequence, server

    def __init__(self, gtids: Iterable[MariaDBGTID | tuple[int, int, int]] = ()) -> None:
        last: dict[int, tuple[int, int]] = {}
        for domain, server, sequence in gtids:
            if not (0 <= domain <= MAX_ID and 0 <= server <= MAX_ID and 0 <= sequence <= MAX_SEQUENCE):
                text = f"{domain}-{server}-{sequence}"
                raise malformed("GTID of MariaDB", text, "has a number that is out of range")
            if domain in last:
                raise ValueError(
                    f"domain {domain} is there twice: a position has one GTID per domain "
                    "(@@gtid_binlog_state, which has more, is none)"
                )
            last[domain] = (sequence, server)
        object.__setattr__(self, "_last", {d: at for d, at in last.items() if at[0]})

    @classmethod
    def _made(cls, last: dict[int, tuple[int, int]]) -> MariaDBPosition:
        made = object.__new__(cls)
        _set_last(made, last)
        return made

    @classmethod
    def parse(cls, text: str) -> MariaDBPosition:
        """Parse a GTID list such as ``"0-1-8,1-1-3"``; white space after a comma is allowed."""
        one = _MARIADB_GTID.fullmatch(text)
        if one is not None:  # the usual case: a server reports one write
            domain, server, sequence = map(int, one.groups())
            if 0 < sequence <= MAX_SEQUENCE and domain <= MAX_ID and server <= MAX_ID:
                return cls._made({domain: (sequence, server)})
        return cls(_mariadb_gtids(text))

    def numbered(self, digits: bytes) -> MariaDBPosition | None:
        """Return this position of a single GTID with another number; None if it may not have that number."""
        if digits.isdigit():
            ((domain, (_, server)),) = self._last.items()
            sequence = int(digits)
            if 0 < sequence <= MAX_SEQUENCE:
                # As `_made` does, without a call for each write.
                made: MariaDBPosition = _new(MariaDBPosition)
                _set_last(made, {domain: (sequence, server)})
                return made
        return None

    def text(self) -> str:
        """Return the list as text, sorted by domain."""
        return ",".join(f"{d}-{server}-{n}" for d, (n, server) in sorted(self._last.items()))

    def gtids(self) -> tuple[MariaDBGTID, ...]:
        """Return the GTIDs, sorted by domain."""
        return tuple(MariaDBGTID(d, server, n) for d, (n, server) in sorted(self._last.items()))

    def merge(self, other: MariaDBPosition) -> MariaDBPosition:
        """Return a position with the higher number in each domain; of equal ones, the higher server's."""
        if type(other) is not type(self):
            raise mixed(self, other)
        mine, theirs = self._last, other._last
        merged = None
        for domain, at in theirs.items():
            have = mine.get(domain)
            if have is None or have < at:
                if merged is None:
                    if len(mine) == 1 and mine.keys() == theirs.keys():
                        return other  # the usual case: one domain
                    merged = mine.copy()
                merged[domain] = at
        return self if merged is None else self._made(merged)

    def covers(self, other: MariaDBPosition) -> bool:
        """Return whether this position has reached each sequence number of `other`."""
        if type(other) is not type(self):
            raise mixed(self, other)
        mine = self._last
        for domain, at in other._last.items():
            have = mine.get(domain)
            if have is None or have[0] < at[0]:
                return False
        return True

    def compact(self, known: MariaDBPosition) -> MariaDBPosition:
        """Return this position, because a list has no gaps."""
        if type(known) is not type(self):
            raise mixed(self, known)
        return self

    def filled(self) -> MariaDBPosition:
        """Return this position, because a list has no gaps."""
        return self

    def spans(self) -> dict[str, tuple[int, int]]:
        """Return the sequence number of each domain and server, as first and as last number."""
        return {f"{domain}-{server}": (n, n) for domain, (n, server) in self._last.items()}

    def recorded_in(self, binlog_state: str) -> bool:
        """Return whether a primary's history has every GTID of this position; see `unrecorded_in`."""
        return self.unrecorded_in(binlog_state).is_empty

    def unrecorded_in(self, binlog_state: str) -> MariaDBPosition:
        """Return the GTIDs that a primary's history lacks.

        They were lost, for example by a failover. A rebuilt server that has used the same numbers again is
        not detected.

        Parameters:
            binlog_state: the primary's ``@@gtid_binlog_state``, and what it has applied without logging.
                Raises ``ValueError`` if malformed.
        """
        state = last_by_server(binlog_state)
        return self._made(
            {d: (n, server) for d, (n, server) in self._last.items() if state.get((d, server), 0) < n}
        )

    @property
    def size(self) -> int:
        """The number of domains."""
        return len(self._last)

    def __hash__(self) -> int:
        return hash(frozenset((domain, at[0]) for domain, at in self._last.items()))


_new = object.__new__
# Sets what nothing else can set, at a third of the price of `object.__setattr__`.
_set_last = vars(MariaDBPosition)["_last"].__set__


def last_by_server(binlog_state: str) -> dict[tuple[int, int], int]:
    """Return the last sequence number of each domain and server in a text such as ``@@gtid_binlog_state``.

    Raises ``ValueError`` if malformed.
    """
    found: dict[tuple[int, int], int] = {}
    for domain, server, sequence in _mariadb_gtids(binlog_state):
        found[domain, server] = max(sequence, found.get((domain, server), 0))
    return found


def _mariadb_gtids(text: str) -> Iterator[MariaDBGTID]:
    if not text or text.isspace():
        return
    for part in text.split(","):
        if not (found := _MARIADB_GTID.fullmatch(part.strip())):
            raise malformed("GTID list of MariaDB", part, "is not domain-server-sequence")
        yield MariaDBGTID(*map(int, found.groups()))
