"""The base class for the positions of both kinds of server. No I/O, no clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NoReturn, TypeVar

P = TypeVar("P", bound="Position")

_SHOWN = 60  # how many characters of a malformed text a message quotes


class Position(ABC):
    """The transactions that a node's data includes. Immutable; equal positions cover each other.

    Use `MariaDBPosition` or `MySQLPosition`; without arguments, their constructors return the empty position.
    Methods that take another position raise ``TypeError`` if it is not of the same class.
    """

    __slots__ = ()

    @classmethod
    @abstractmethod
    def parse(cls: type[P], text: str) -> P:
        """Parse a position in the server's own notation; ``""`` is the empty position.

        Raises a ``ValueError`` that names the malformed part.
        """

    @abstractmethod
    def text(self) -> str:
        """Return the position in the server's notation: sorted, on one line, without blanks."""

    @abstractmethod
    def merge(self: P, other: P) -> P:
        """Return the smallest position that covers both; ``self`` if it already covers `other`."""

    @abstractmethod
    def numbered(self: P, digits: bytes) -> P | None:
        """Return this position, which must be a single GTID, with another number; cheaper than `parse`.

        Returns None if `digits` is no number that a GTID may have.
        """

    @abstractmethod
    def covers(self: P, other: P) -> bool:
        """Return whether data at this position includes everything up to `other`."""

    @abstractmethod
    def compact(self: P, known: P) -> P:
        """Return this position with the gaps closed that `known` fills.

        Other contexts' writes leave gaps between a context's own; closing them keeps its position short. The
        result covers this position, and contains only what is in this position or in `known`.
        """

    @abstractmethod
    def filled(self: P) -> P:
        """Return this position with all gaps closed. It covers this one, and also includes others' writes."""

    @abstractmethod
    def spans(self) -> dict[str, tuple[int, int]]:
        """Return the first and the last number of each source, by the server's name for the source."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of GTIDs or intervals, which determines the cost to store, compare and send it."""

    @property
    def is_empty(self) -> bool:
        """Whether this is the empty position, which every position covers."""
        return not self.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Position) or type(other) is not type(self):
            return NotImplemented
        return self.covers(other) and other.covers(self)

    @abstractmethod
    def __hash__(self) -> int: ...

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a position never changes: {name} cannot be set")

    def __reduce__(self) -> tuple[Callable[[str], Position], tuple[str]]:
        return type(self).parse, (self.text(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({self.text()!r})"


def mixed(one: object, other: object) -> TypeError:
    """Return the error for comparing two positions of different classes."""
    names = f"{type(one).__name__} and {type(other).__name__}"
    return TypeError(f"{names} cannot be compared: a position belongs to one kind of server")


def malformed(what: str, part: str, why: str) -> ValueError:
    """Return the error for a malformed text.

    Parameters:
        what: what the text should be.
        part: the malformed part.
        why: what is wrong with the part; completes a sentence that begins with it.
    """
    shown = part if len(part) <= _SHOWN else part[:_SHOWN] + "…"
    return ValueError(f"not a {what}: {shown!r} {why}")
