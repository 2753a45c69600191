"""Parse server versions from greetings, and look up which built-in names a version has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?", re.ASCII)
# MariaDB before 11 announces itself as "5.5.5-10.11.6-MariaDB", so that old replication clients accept it.
_DISGUISE = "5.5.5-"
# The first stable patch number of series that began with unstable releases.
_FIRST_STABLE = {(5, 7): 9, (8, 0): 11}
_LAST = 999


class Version(NamedTuple):
    """A release of a server, such as 8.0.36."""

    major: int
    minor: int
    patch: int


class Span(NamedTuple):
    """The releases that one greeting may mean: one, or a whole series if it has no patch number."""

    low: Version
    high: Version


def span_of(greeting: str) -> Span | None:
    """Return the releases that this greeting may come from; ``None`` if the greeting has no version.

    Some hosted servers omit the patch number: ``8.0.mysql_aurora.3.05.2``.
    """
    match = _NUMBERS.match(greeting.removeprefix(_DISGUISE))
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2])
    if match[3] is None:
        first = _FIRST_STABLE.get((major, minor), 0)
        return Span(Version(major, minor, first), Version(major, minor, _LAST))
    exact = Version(major, minor, int(match[3]))
    return Span(exact, exact)


def names_at(since: Mapping[str, str], removed: Mapping[str, str], span: Span) -> frozenset[str]:
    """Return the names that every release of `span` has.

    Parameters:
        since: names, by the release that added them. If several series got them, each is listed:
            ``"5.7.22 8.0.11"``. A series between two listed ones does not have them.
        removed: names, by the release that removed them.
        span: the releases.
    """
    found = set[str]()
    for releases, names in since.items():
        if _is_in(releases, span):
            found.update(names.split())
    for release, names in removed.items():
        if span.high >= _parsed(release):
            found.difference_update(names.split())
    return frozenset(found)


def _is_in(releases: str, span: Span) -> bool:
    """Return whether every release of `span` has the names that were added in `releases`."""
    first = [_parsed(release) for release in releases.split()]
    if span.low >= first[-1]:
        return True
    return any(span.low[:2] == each[:2] and span.low >= each for each in first)


def _parsed(release: str) -> Version:
    major, minor, patch = release.split(".")
    return Version(int(major), int(minor), int(patch))
