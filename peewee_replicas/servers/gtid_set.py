"""MySQL's positions: GTID sets. No I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .intervals import Bounds, contains, difference, join, pairs, union, without_gaps
from .position import Position, malformed, mixed

MAX_NUMBER: Final = 2**63 - 2  # of a transaction


class MySQLInterval(NamedTuple):
    """The transactions `first` to `last` of one source, under one tag (``""`` for none)."""

    uuid: str
    tag: str
    first: int
    last: int


_UUID_PATTERN = "-".join(f"[0-9A-Fa-f]{{{length}}}" for length in (8, 4, 4, 4, 12))
_UUID = re.compile(_UUID_PATTERN)
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_NUMBERS = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_SINGLE = re.compile(rf"({_UUID_PATTERN}(?::[A-Za-z_][A-Za-z0-9_]{{0,31}})?):{_NUMBERS.pattern}")
# Sources that were valid, as spelled, with their lower case: checking one costs more than parsing the rest.
_valid_sources: dict[str, str] = {}
_SOURCES_KEPT = 64
_OWNER = re.compile(r"(?:#[0-9]+)+")
_OWNER_BEFORE_UUID = re.compile(rf"{_OWNER.pattern}(?={_UUID_PATTERN})")


class MySQLPosition(Position):
    """A GTID set: for each source and tag, the number of every transaction.

    Membership is exact: ``1-3:5`` does not cover ``4``.

    Parameters:
        intervals: in any order; they may overlap. Raises ``ValueError`` for a UUID, a tag or a number that
            no server accepts.
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
                    raise malformed("GTID set of MySQL", tag, "is not a tag")
                sources[source] = []
            _check_interval(first, last)
            sources[source].append((first, last + 1))
        object.__setattr__(self, "_sources", {s: join(found) for s, found in sources.items()})

    @classmethod
    def _made(cls, sources: dict[str, Bounds]) -> MySQLPosition:
        made = object.__new__(cls)
        _set_sources(made, sources)
        return made

    @classmethod
    def parse(cls, text: str) -> MySQLPosition:
        """Parse a GTID set such as ``"uuid:1-8:tag:3"``; white space after a comma is allowed."""
        before, _, number = text.rpartition(":")
        source = _valid_sources.get(before)
        if source is not None and number.isascii() and number.isdigit() and len(number) < 20:
            first = last = int(number)  # the usual case: one write, from a source that was seen before
        else:
            single = _SINGLE.fullmatch(text)
            if single is None:
                return cls(_mysql_intervals(text))
            before, low, high = single.groups()
            if len(_valid_sources) >= _SOURCES_KEPT:
                _valid_sources.clear()
            source = _valid_sources[before] = before.lower()
            first, last = int(low), int(high or low)
        if not 0 < first <= last <= MAX_NUMBER:
            _check_interval(first, last)  # raises, with the reason
        return cls._made({source: (first, last + 1)})

    def numbered(self, digits: bytes) -> MySQLPosition | None:
        """Return this position of a single GTID with another number; None if it may not have that number."""
        if digits.isdigit() and len(digits) < 20:
            (source,) = self._sources
            number = int(digits)
            if 0 < number <= MAX_NUMBER:
                made: MySQLPosition = _new(MySQLPosition)  # as `_made` does, without a call for each write
                _set_sources(made, {source: (number, number + 1)})
                return made
        return None

    @classmethod
    def parse_owned(cls, text: str) -> MySQLPosition:
        """Parse the value of ``@@GLOBAL.gtid_owned``, in which ``#thread`` follows each number."""
        # The server puts nothing between two sources: "uuid:23#45uuid:24#46".
        return cls.parse(_OWNER.sub("", _OWNER_BEFORE_UUID.sub(",", text)))

    def text(self) -> str:
        """Return the set as text, sorted by UUID and tag."""
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
        """Return the intervals in order; none touches the next."""
        return tuple(
            MySQLInterval(uuid, tag, start, stop - 1)
            for source, bounds in sorted(self._sources.items())
            for uuid, _, tag in (source.partition(":"),)
            for start, stop in pairs(bounds)
        )

    def merge(self, other: MySQLPosition) -> MySQLPosition:
        """Return the union of both sets."""
        if type(other) is not type(self):
            raise mixed(self, other)
        mine = self._sources
        merged = None
        if len(other._sources) == len(mine) == 1:
            # The usual case, by far: one write, of the only source.
            ((source, theirs),) = other._sources.items()
            have = mine.get(source)
            if have is not None:
                if have[-1] == theirs[0] and len(theirs) == 2:
                    both = (*have[:-1], theirs[1])  # the next write after the last
                else:
                    both = union(have, theirs)
                    if both is have:
                        return self
                made: MySQLPosition = _new(MySQLPosition)  # as `_made` does, without a call for each write
                _set_sources(made, {source: both})
                return made
        for source, theirs in other._sources.items():
            have = mine.get(source)
            both = theirs if have is None else union(have, theirs)
            if both is not have:
                if merged is None:
                    merged = mine.copy()
                merged[source] = both
        return self if merged is None else self._made(merged)

    def covers(self, other: MySQLPosition) -> bool:
        """Return whether `other` is a subset of this set."""
        if type(other) is not type(self):
            raise mixed(self, other)
        mine = self._sources
        for source, theirs in other._sources.items():
            have = mine.get(source)
            if have is None or not contains(have, theirs):
                return False
        return True

    def compact(self, known: MySQLPosition) -> MySQLPosition:
        """Return this set with each gap between two intervals closed if `known` has the whole gap."""
        if type(known) is not type(self):
            raise mixed(self, known)
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

    def filled(self) -> MySQLPosition:
        """Return one interval for each source and tag, from its first number to its last."""
        if all(len(bounds) == 2 for bounds in self._sources.values()):
            return self
        return self._made({source: (bounds[0], bounds[-1]) for source, bounds in self._sources.items()})

    def without(self, other: MySQLPosition) -> MySQLPosition:
        """Return the transactions that are not in `other`."""
        if type(other) is not type(self):
            raise mixed(self, other)
        left = {
            source: difference(bounds, other._sources.get(source, ()))
            for source, bounds in self._sources.items()
        }
        return self._made({source: bounds for source, bounds in left.items() if bounds})

    def spans(self) -> dict[str, tuple[int, int]]:
        """Return the first and the last number of each source and tag."""
        return {source: (bounds[0], bounds[-1] - 1) for source, bounds in self._sources.items()}

    @property
    def size(self) -> int:
        """The number of intervals."""
        return sum(map(len, self._sources.values())) // 2

    def __hash__(self) -> int:
        return hash(frozenset(self._sources.items()))


_new = object.__new__
# Sets what nothing else can set, at a third of the price of `object.__setattr__`.
_set_sources = vars(MySQLPosition)["_sources"].__set__


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
                raise malformed("GTID set of MySQL", item, f"after {uuid} is neither interval nor tag")
        if awaited:
            raise malformed("GTID set of MySQL", part.strip(), "has no interval at its end")


def _check_uuid(uuid: str) -> None:
    if not _UUID.fullmatch(uuid):
        raise malformed("GTID set of MySQL", uuid, "is not a UUID")


def _check_interval(first: int, last: int) -> None:
    if not 1 <= first <= last <= MAX_NUMBER:
        why = "ends before it starts" if last < first else f"is not within 1 to {MAX_NUMBER}"
        raise malformed("GTID set of MySQL", f"{first}-{last}", why)
