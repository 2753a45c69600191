"""Positions: how far a node's data has come. Pure values that can be merged and compared.

MariaDB tells it as a GTID list (per domain, the last sequence number), MySQL as a GTID set (per
source, every transaction's number, gaps included). Neither can be compared with the other.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from peewee_replicas.intervals import Bounds, contains, join, pairs, union, without_gaps

P = TypeVar("P", bound="Position")

MAX_ID: Final = 2**32 - 1  # MariaDB's domains and server ids
MAX_SEQUENCE: Final = 2**64 - 1  # MariaDB's sequence numbers
MAX_NUMBER: Final = 2**63 - 2  # MySQL's transaction numbers

_SHOWN = 60  # characters of a bad text that a message quotes


class Position(ABC):
    """How far a node's data has come. Never changes; equal positions cover each other.

    Use `MariaDBPosition` or `MySQLPosition`, whose constructors give the empty position. The methods
    that take another position raise ``TypeError`` if it is not of the same class.
    """

    __slots__ = ()

    @classmethod
    @abstractmethod
    def parse(cls: type[P], text: str) -> P:
        """The position in the server's own notation; ``""`` is the empty one.

        Raises ``ValueError`` that names the part that is wrong.
        """

    @abstractmethod
    def text(self) -> str:
        """The position as the server reads it: sorted, in one line, without blanks."""

    @abstractmethod
    def merge(self: P, other: P) -> P:
        """The least position that covers both; ``self`` itself if that is it."""

    @abstractmethod
    def covers(self: P, other: P) -> bool:
        """Whether data that has come this far has come as far as `other`."""

    @abstractmethod
    def compact(self: P, known: P) -> P:
        """This position with its gaps closed where `known` has what is missing.

        The writes of others leave gaps between a context's own; this keeps what it carries short. The
        result covers this position and asks for nothing that is neither in it nor in `known`.
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """How many GTIDs or intervals it has: what it costs to keep, to compare and to send."""

    @property
    def is_empty(self) -> bool:
        """Whether every position covers this one."""
        return not self.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Position) or type(other) is not type(self):
            return NotImplemented
        return self.covers(other) and other.covers(self)

    @abstractmethod
    def __hash__(self) -> int: ...

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a position never changes: {name} cannot be set")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).parse, (self.text(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({self.text()!r})"


def _mixed(one: object, other: object) -> TypeError:
    names = f"{type(one).__name__} and {type(other).__name__}"
    return TypeError(f"{names} cannot be compared: a position belongs to one kind of server")


def _malformed(what: str, part: str, why: str) -> ValueError:
    shown = part if len(part) <= _SHOWN else part[:_SHOWN] + "…"
    return ValueError(f"not a {what}: {shown!r} {why}")


# MariaDB


class MariaDBGTID(NamedTuple):
    """One GTID of MariaDB."""

    domain: int
    server: int
    sequence: int


_MARIADB_GTID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})-([0-9]{1,20})")


class MariaDBPosition(Position):
    """A GTID list: in each domain, the last sequence number.

    Only domain and sequence number are compared, as by the server; the server id is kept for the
    text and for `recorded_in`. Sequence number 0 is reached by everybody and left out.

    Parameters:
        gtids: at most one of each domain. Raises ``ValueError`` for two, or a number out of range.
    """

    __slots__ = ("_last",)

    _last: dict[int, tuple[int, int]]  # domain -> sequence, server

    def __init__(self, gtids: Iterable[MariaDBGTID | tuple[int, int, int]] = ()) -> None:
        last: dict[int, tuple[int, int]] = {}
        for domain, server, sequence in gtids:
            if not (0 <= domain <= MAX_ID and 0 <= server <= MAX_ID and 0 <= sequence <= MAX_SEQUENCE):
                text = f"{domain}-{server}-{sequence}"
                raise _malformed("GTID of MariaDB", text, "has a number that is out of range")
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
        object.__setattr__(made, "_last", last)
        return made

    @classmethod
    def parse(cls, text: str) -> MariaDBPosition:
        """A GTID list such as ``"0-1-8,1-1-3"``; white space after a comma is allowed."""
        one = _MARIADB_GTID.fullmatch(text)
        if one is not None:  # what a server reports of one write
            domain, server, sequence = map(int, one.groups())
            if 0 < sequence <= MAX_SEQUENCE and domain <= MAX_ID and server <= MAX_ID:
                return cls._made({domain: (sequence, server)})
        return cls(_mariadb_gtids(text))

    def text(self) -> str:
        """The list, by domain."""
        return ",".join(f"{d}-{server}-{n}" for d, (n, server) in sorted(self._last.items()))

    def gtids(self) -> tuple[MariaDBGTID, ...]:
        """The GTIDs, by domain."""
        return tuple(MariaDBGTID(d, server, n) for d, (n, server) in sorted(self._last.items()))

    def merge(self, other: MariaDBPosition) -> MariaDBPosition:
        """In each domain the higher sequence number (of two equal ones, that of the higher server)."""
        if type(other) is not type(self):
            raise _mixed(self, other)
        mine = self._last
        if len(mine) == 1 and len(other._last) == 1:  # one domain, as nearly everywhere
            ((domain, at),) = other._last.items()
            have = mine.get(domain)
            if have is not None:
                return other if have < at else self
        merged = None
        for domain, at in other._last.items():
            have = mine.get(domain)
            if have is None or have < at:
                if merged is None:
                    merged = mine.copy()
                merged[domain] = at
        return self if merged is None else self._made(merged)

    def covers(self, other: MariaDBPosition) -> bool:
        """Whether each sequence number of `other` is reached in its domain."""
        if type(other) is not type(self):
            raise _mixed(self, other)
        mine = self._last
        for domain, at in other._last.items():
            have = mine.get(domain)
            if have is None or have[0] < at[0]:
                return False
        return True

    def compact(self, known: MariaDBPosition) -> MariaDBPosition:
        """This position: a list has no gaps."""
        if type(known) is not type(self):
            raise _mixed(self, known)
        return self

    def recorded_in(self, binlog_state: str) -> bool:
        """Whether the history of a primary has every GTID of this position.

        False means that it was lost, by a failover for one. A rebuilt server that took the same
        numbers again cannot be told apart.

        Parameters:
            binlog_state: the primary's ``@@gtid_binlog_state``, with what it has applied and not logged.
                Raises ``ValueError`` if malformed.
        """
        state: dict[tuple[int, int], int] = {}
        for domain, server, sequence in _mariadb_gtids(binlog_state):
            state[domain, server] = max(sequence, state.get((domain, server), 0))
        return all(state.get((d, server), 0) >= n for d, (n, server) in self._last.items())

    @property
    def size(self) -> int:
        """How many domains it has."""
        return len(self._last)

    def __hash__(self) -> int:
        return hash(frozenset((domain, at[0]) for domain, at in self._last.items()))


def _mariadb_gtids(text: str) -> Iterator[MariaDBGTID]:
    if not text or text.isspace():
        return
    for part in text.split(","):
        if not (found := _MARIADB_GTID.fullmatch(part.strip())):
            raise _malformed("GTID list of MariaDB", part, "is not domain-server-sequence")
        yield MariaDBGTID(*map(int, found.groups()))


# MySQL


class MySQLInterval(NamedTuple):
    """The transactions `first` to `last` of one source, under one tag (``""``: none)."""

    uuid: str
    tag: str
    first: int
    last: int


_UUID_PATTERN = "-".join(f"[0-9A-Fa-f]{{{length}}}" for length in (8, 4, 4, 4, 12))
_UUID = re.compile(_UUID_PATTERN)
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_NUMBERS = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_SINGLE = re.compile(rf"({_UUID_PATTERN}(?::[A-Za-z_][A-Za-z0-9_]{{0,31}})?):{_NUMBERS.pattern}")
_OWNER = re.compile(r"(?:#[0-9]+)+")
_OWNER_BEFORE_UUID = re.compile(rf"{_OWNER.pattern}(?={_UUID_PATTERN})")


class MySQLPosition(Position):
    """A GTID set: of each source and tag, every single transaction's number.

    Membership is exact: ``1-3:5`` does not cover ``4``.

    Parameters:
        intervals: in any order, and they may overlap. Raises ``ValueError`` for a UUID, a tag or a
            number that no server takes.
    """

    __slots__ = ("_sources",)

    _sources: dict[str, Bounds]  # "uuid" or "uuid:tag", lower case

    def __init__(self, intervals: Iterable[MySQLInterval | tuple[str, str, int, int]] = ()) -> None:
        sources: dict[str, list[tuple[int, int]]] = {}
        for uuid, tag, first, last in intervals:
            source = (f"{uuid}:{tag}" if tag else uuid).lower()
            if source not in sources:
                _check_uuid(uuid)
                if tag and not _TAG.fullmatch(tag):
                    raise _malformed("GTID set of MySQL", tag, "is not a tag")
                sources[source] = []
            _check_interval(first, last)
            sources[source].append((first, last + 1))
        object.__setattr__(self, "_sources", {s: join(found) for s, found in sources.items()})

    @classmethod
    def _made(cls, sources: dict[str, Bounds]) -> MySQLPosition:
        made = object.__new__(cls)
        object.__setattr__(made, "_sources", sources)
        return made

    @classmethod
    def parse(cls, text: str) -> MySQLPosition:
        """A GTID set such as ``"uuid:1-8:tag:3"``; white space after a comma is allowed."""
        single = _SINGLE.fullmatch(text)
        if single is None:
            return cls(_mysql_intervals(text))
        source, low, high = single.groups()
        first, last = int(low), int(high or low)
        _check_interval(first, last)
        return cls._made({source.lower(): (first, last + 1)})

    @classmethod
    def parse_owned(cls, text: str) -> MySQLPosition:
        """What ``@@GLOBAL.gtid_owned`` says: ``#thread`` follows each number."""
        # The server puts nothing between two sources: "uuid:23#45uuid:24#46".
        return cls.parse(_OWNER.sub("", _OWNER_BEFORE_UUID.sub(",", text)))

    def text(self) -> str:
        """The set, by UUID and tag."""
        parts: list[str] = []
        at = ("", "")
        for uuid, tag, first, last in self.intervals():
            if uuid != at[0]:
                parts.append(f",{uuid}")
            if tag and (uuid, tag) != at:
                parts.append(f":{tag}")
            at = (uuid, tag)
            parts.append(f":{first}" if first == last else f":{first}-{last}")
        return "".join(parts)[1:]

    def intervals(self) -> tuple[MySQLInterval, ...]:
        """The intervals, in order; none touches the next."""
        return tuple(
            MySQLInterval(uuid, tag, start, stop - 1)
            for source, bounds in sorted(self._sources.items())
            for uuid, _, tag in (source.partition(":"),)
            for start, stop in pairs(bounds)
        )

    def merge(self, other: MySQLPosition) -> MySQLPosition:
        """The union."""
        if type(other) is not type(self):
            raise _mixed(self, other)
        mine = self._sources
        merged = None
        for source, theirs in other._sources.items():
            have = mine.get(source)
            both = theirs if have is None else union(have, theirs)
            if both is not have:
                if merged is None:
                    merged = mine.copy()
                merged[source] = both
        return self if merged is None else self._made(merged)

    def covers(self, other: MySQLPosition) -> bool:
        """Whether `other` is a subset."""
        if type(other) is not type(self):
            raise _mixed(self, other)
        mine = self._sources
        for source, theirs in other._sources.items():
            have = mine.get(source)
            if have is None or not contains(have, theirs):
                return False
        return True

    def compact(self, known: MySQLPosition) -> MySQLPosition:
        """Gaps between two intervals of one source are closed where `known` has the whole gap."""
        if type(known) is not type(self):
            raise _mixed(self, known)
        closed = None
        for source, bounds in self._sources.items():
            have = known._sources.get(source)
            if have is not None and len(bounds) > 2:
                fewer = without_gaps(bounds, have)
                if len(fewer) < len(bounds):
                    if closed is None:
                        closed = self._sources.copy()
                    closed[source] = fewer
        return self if closed is None else self._made(closed)

    @property
    def size(self) -> int:
        """How many intervals it has."""
        return sum(map(len, self._sources.values())) // 2

    def __hash__(self) -> int:
        return hash(frozenset(self._sources.items()))


def _mysql_intervals(text: str) -> Iterator[MySQLInterval]:
    if not text or text.isspace():
        return
    for part in text.split(","):
        uuid, *items = part.strip().split(":")
        _check_uuid(uuid)
        tag, awaited = "", True
        for item in items:
            if numbers := _NUMBERS.fullmatch(item):
                yield MySQLInterval(uuid, tag, int(numbers[1]), int(numbers[2] or numbers[1]))
                awaited = False
            elif _TAG.fullmatch(item) and not (tag and awaited):
                tag, awaited = item, True
            else:
                raise _malformed("GTID set of MySQL", item, f"after {uuid} is neither interval nor tag")
        if awaited:
            raise _malformed("GTID set of MySQL", part.strip(), "has no interval at its end")


def _check_uuid(uuid: str) -> None:
    if not _UUID.fullmatch(uuid):
        raise _malformed("GTID set of MySQL", uuid, "is not a UUID")


def _check_interval(first: int, last: int) -> None:
    if not 1 <= first <= last <= MAX_NUMBER:
        why = "ends before it starts" if last < first else f"is not within 1 to {MAX_NUMBER}"
        raise _malformed("GTID set of MySQL", f"{first}-{last}", why)


POSITIONS: Final[Mapping[str, type[MariaDBPosition] | type[MySQLPosition]]] = {
    "mariadb": MariaDBPosition,
    "mysql": MySQLPosition,
}
"""The class of positions that a kind of server has."""
