"""A checker of session guarantees: histories of what sessions did, and what in them must not be.

Pure: it knows no server, no driver and no clock. Times are ticks of one counter that all sessions share,
so that an event that ended before another began has the lower number.

A key is ``(table, id)``. Each write of a key makes a new version of it, numbered in the order in which the
primary made them, and carries a token that no other write has; so a write that was applied twice, a number
that was given twice, and a row that was rolled back are all recognised when anybody reads them. Version 0
is a key that is not there yet.

A *check* is one guarantee held against one read, however many keys it read, and only where something was
there that it could have failed on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Key = tuple[str, object]
Seen = tuple[int, object]
Floor = Mapping[Key, int]

OWN_WRITES = "read your writes"
PRIMARY = "after the primary"
MONOTONIC = "monotonic reads"
FOLLOWS = "writes follow reads"
PREFIX = "consistent prefix"
STRONG = "strong"
TRUE = "versions"
GUARANTEES = (OWN_WRITES, PRIMARY, MONOTONIC, FOLLOWS, PREFIX, STRONG, TRUE)

_NOTHING: Floor = {}
_EXAMPLES = 3


class Write(NamedTuple):
    """One key that an event wrote.

    Attributes:
        version: the number it made, or None where the outcome is not known.
        token: its own mark; None deletes the key, and later reads that miss it see this version.
    """

    key: Key
    version: int | None
    token: object


class Event(NamedTuple):
    """One thing that one session did.

    Attributes:
        group: what it is counted under.
        session: whose obligations it has and adds to.
        what: the operation, in words.
        began, ended: ticks; of a transaction, before its BEGIN and after its COMMIT.
        reads: of each key that it read the version and the token (None: not looked at).
        writes: what it wrote, or tried to.
        outcome: ``"ok"``; ``"failed"``: certainly not applied; ``"unknown"``: nobody was told.
        obliges: it ran on the primary, which told no position of its own: what it could have met there
            has to be seen from then on.
        promise: ``"session"`` and ``"strong"`` as the library's levels (``process`` is one session that
            all share); ``"eventual"``: nothing, except in a scope.
        scope: reads of one scope never go backwards.
        node: who answered; for the reader of a violation.
    """

    group: str
    session: str
    what: str
    began: int
    ended: int
    reads: Mapping[Key, Seen] = {}
    writes: tuple[Write, ...] = ()
    outcome: Literal["ok", "failed", "unknown"] = "ok"
    obliges: bool = False
    promise: Literal["eventual", "session", "strong"] = "session"
    scope: str = ""
    node: str = ""


class Inherits(NamedTuple):
    """At one tick, a session is obliged to all that another one is: a scope's begin or end, a bookmark."""

    session: str
    source: str
    ended: int


class Violation(NamedTuple):
    """One read that saw what it must not."""

    guarantee: str
    event: Event
    key: Key
    saw: int
    must: int
    why: str

    def __str__(self) -> str:
        event = self.event
        return (
            f"{self.guarantee}: {event.session} at {event.began}..{event.ended} ({event.what} on "
            f"{event.node or '?'}) saw version {self.saw} of {self.key}, must see {self.must}: {self.why}"
        )


class Report:
    """What a check found.

    Attributes:
        reads: reads looked at, by group.
        checks, violations: by group and guarantee.
        examples: the first violations of each group and guarantee.
    """

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self.checks: Counter[tuple[str, str]] = Counter()
        self.violations: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], list[Violation]] = {}

    def add(self, other: Report) -> None:
        """Count another report in."""
        self.reads += other.reads
        self.checks += other.checks
        self.violations += other.violations
        for place, found in other.examples.items():
            mine = self.examples.setdefault(place, [])
            mine.extend(found[: _EXAMPLES - len(mine)])

    def total(self, counted: Counter[tuple[str, str]], group: str) -> int:
        """The sum over all guarantees."""
        return sum(number for (name, _), number in counted.items() if name == group)

    def found(self, violation: Violation) -> None:
        """Count one violation."""
        place = (violation.event.group, violation.guarantee)
        self.violations[place] += 1
        examples = self.examples.setdefault(place, [])
        if len(examples) < _EXAMPLES:
            examples.append(violation)


class _Timeline:
    """The highest version of a key that was acknowledged, by tick."""

    __slots__ = ("_ticks", "_versions")

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._versions: list[int] = []

    def reach(self, tick: int, version: int) -> None:
        if not self._versions or version > self._versions[-1]:
            self._ticks.append(tick)
            self._versions.append(version)

    def before(self, tick: int) -> int:
        at = bisect_left(self._ticks, tick)
        return self._versions[at - 1] if at else 0


class _Session:
    """What a session is obliged to; the mappings are replaced, never changed, so that a read can keep them.

    Attributes:
        own: versions it wrote.
        met: versions it met on the primary.
        as_of: it must see all that was acknowledged anywhere before this tick.
        knows: versions it has read or written, wherever.
    """

    __slots__ = ("as_of", "knows", "met", "own")

    def __init__(self) -> None:
        self.own = self.met = self.knows = _NOTHING
        self.as_of = 0


class _Required(NamedTuple):
    """A session's obligations when an event of it began."""

    own: Floor
    met: Floor
    as_of: int
    knows: Floor
    scope: Floor


def _raised(floor: Floor, versions: Iterable[tuple[Key, int]]) -> Floor:
    """`floor`, raised to `versions`; itself if it is there already."""
    higher: dict[Key, int] = {}
    for key, version in versions:
        if version > higher.get(key, floor.get(key, 0)):
            higher[key] = version
    return {**floor, **higher} if higher else floor


class Checker:
    """One pass over a history.

    Parameters:
        joint: tables whose keys are read together, in one statement; the order of writes is checked on them.
    """

    def __init__(self, joint: Iterable[str]) -> None:
        self._joint = frozenset(joint)
        self.report = Report()
        self._acknowledged: dict[Key, _Timeline] = {}
        self._sessions: dict[str, _Session] = {}
        self._scopes: dict[str, Floor] = {}
        self._open: dict[int, _Required] = {}
        self._begun: dict[object, tuple[int, Floor]] = {}  # by token: when, and what its session knew
        self._never: set[object] = set()  # tokens of writes that failed
        self._tokens: dict[tuple[Key, int], object] = {}
        self._places: dict[object, tuple[Key, int]] = {}
        self._gone: dict[Key, int] = {}  # keys whose deletion has begun, and the version that is

    def check(self, history: Iterable[Event | Inherits]) -> Report:
        """Check a whole history, in any order."""
        steps: list[tuple[int, int, Event | Inherits]] = []
        for number, item in enumerate(history):
            if isinstance(item, Event):
                self._foresee(item)
                steps.append((item.began, number, item))
            steps.append((item.ended, number, item))
        steps.sort(key=lambda step: step[:2])
        for tick, number, item in steps:
            if isinstance(item, Inherits):
                self._inherit(item)
            elif tick == item.began and number not in self._open:
                self._begin(number, item)
            else:
                self._end(item, self._open.pop(number))
        return self.report

    def _session(self, name: str) -> _Session:
        return self._sessions.setdefault(name, _Session())

    def _foresee(self, event: Event) -> None:
        if event.outcome == "failed":
            self._never.update(write.token for write in event.writes)

    def _inherit(self, item: Inherits) -> None:
        mine, theirs = self._session(item.session), self._session(item.source)
        mine.own = _raised(mine.own, theirs.own.items())
        mine.met = _raised(mine.met, theirs.met.items())
        mine.knows = _raised(mine.knows, theirs.knows.items())
        mine.as_of = max(mine.as_of, theirs.as_of)

    def _begin(self, number: int, event: Event) -> None:
        session = self._session(event.session)
        scope = self._scopes.get(event.scope, _NOTHING) if event.scope else _NOTHING
        self._open[number] = _Required(session.own, session.met, session.as_of, session.knows, scope)
        for write in event.writes:
            if write.token is not None:
                self._begun[write.token] = (event.began, session.knows)
            elif event.outcome != "failed" and write.version is not None:
                self._gone[write.key] = write.version

    def _end(self, event: Event, required: _Required) -> None:
        session = self._session(event.session)
        reads = {key: self._as_version(key, seen) for key, seen in event.reads.items()}
        if event.outcome == "ok":
            if reads:
                self._check(event, required, reads)
            session.knows = _raised(session.knows, self._joint_only(reads))
            made = [(write.key, write.version or 0) for write in event.writes]
            session.own = _raised(session.own, made)
            session.knows = _raised(session.knows, self._joint_only(dict(made)))
            for write in event.writes:
                self._acknowledged.setdefault(write.key, _Timeline()).reach(event.ended, write.version or 0)
                self._place(event, write.key, write.version or 0, write.token)
            if event.scope:
                # What a scope writes on the primary binds it as a session, not as a reader.
                self._scopes[event.scope] = _raised(
                    self._scopes.get(event.scope, _NOTHING), [*reads.items(), *self._causes(event)]
                )
        if event.obliges and event.outcome != "unknown":
            session.as_of = max(session.as_of, event.began)
            session.met = _raised(session.met, reads.items())

    def _as_version(self, key: Key, seen: Seen) -> int:
        return self._gone.get(key, 0) if seen[0] == 0 else seen[0]

    def _joint_only(self, versions: Mapping[Key, int]) -> Iterable[tuple[Key, int]]:
        return ((key, version) for key, version in versions.items() if key[0] in self._joint)

    def _causes(self, event: Event) -> Iterable[tuple[Key, int]]:
        """What the writers of what was read had known before."""
        for _, token in event.reads.values():
            if token in self._begun:
                yield from self._begun[token][1].items()

    # The guarantees

    def _check(self, event: Event, required: _Required, reads: Floor) -> None:
        self.report.reads[event.group] += 1
        self._check_truth(event)
        if event.scope:
            self._hold(MONOTONIC, event, reads, required.scope, "its scope has seen, or what that followed")
        if event.promise == "eventual":
            return
        self._hold(OWN_WRITES, event, reads, required.own, "its session wrote that")
        met = _raised(required.met, self._then(reads, required.as_of))
        self._hold(PRIMARY, event, reads, met, "its session ended a statement on the primary after that")
        if event.promise == "strong":
            then = dict(self._then(reads, event.began))
            self._hold(STRONG, event, reads, then, "that was acknowledged before the read began")

    def _then(self, keys: Iterable[Key], tick: int) -> Iterable[tuple[Key, int]]:
        """What was acknowledged before a tick."""
        for key in keys if tick else ():
            if key in self._acknowledged:
                yield key, self._acknowledged[key].before(tick)

    def _hold(self, guarantee: str, event: Event, reads: Floor, floor: Floor, why: str) -> None:
        must = [(key, floor[key]) for key in reads if floor.get(key, 0)]
        if not must:
            return
        self.report.checks[event.group, guarantee] += 1
        for key, version in must:
            if reads[key] < version:
                self.report.found(Violation(guarantee, event, key, reads[key], version, why))
                return  # one read violates one guarantee once

    def _check_truth(self, event: Event) -> None:
        """Each version was written once, and whoever is seen is seen after all that it followed."""
        self.report.checks[event.group, TRUE] += 1
        causes: dict[Key, int] = {}
        latest = 0
        for key, (version, token) in event.reads.items():
            if not version or token is None:
                continue
            self._place(event, key, version, token)
            if key[0] in self._joint and token in self._begun:
                began, known = self._begun[token]
                for cause, at in known.items():
                    causes[cause] = max(at, causes.get(cause, 0))
                latest = max(latest, began)
        if len(event.reads) > 1:
            reads = {key: self._as_version(key, seen) for key, seen in event.reads.items()}
            self._hold(FOLLOWS, event, reads, causes, "another row it read was written by one who knew that")
            earlier = dict(self._then(event.reads, latest))
            self._hold(PREFIX, event, reads, earlier, "another row it read was written after that")

    def _place(self, event: Event, key: Key, version: int, token: object) -> None:
        if token is None:
            return
        at = (key, version)
        why = ""
        if token in self._never:
            why = f"token {token!r} is of a write that failed"
        elif token not in self._begun:
            why = f"nobody had begun to write token {token!r}"
        elif self._tokens.setdefault(at, token) != token:
            why = f"the number is used twice, for token {token!r} and {self._tokens[at]!r}"
        elif self._places.setdefault(token, at) != at:
            why = f"token {token!r} is there twice, also as {self._places[token]}"
        if why:
            self.report.found(Violation(TRUE, event, key, version, 0, why))


def check(history: Iterable[Event | Inherits], joint: Iterable[str] = ()) -> Report:
    """Check a whole history; see `Checker`."""
    return Checker(joint).check(history)
