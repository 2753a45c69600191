"""What the positions of both kinds of server have in common. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NoReturn, TypeVar

P = TypeVar("P", bound="Position")

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

    @abstractmethod
    def filled(self: P) -> P:
        """This position with all its gaps closed: it covers this one, and asks for what others wrote too."""

    @abstractmethod
    def spans(self) -> dict[str, tuple[int, int]]:
        """Of everybody who wrote what is in it, the first and the last number; by the server's own names."""

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

    def __reduce__(self) -> tuple[Callable[[str], Position], tuple[str]]:
        return type(self).parse, (self.text(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({self.text()!r})"


def mixed(one: object, other: object) -> TypeError:
    """The error of comparing two positions that are not of one class."""
    names = f"{type(one).__name__} and {type(other).__name__}"
    return TypeError(f"{names} cannot be compared: a position belongs to one kind of server")


def malformed(what: str, part: str, why: str) -> ValueError:
    """The error of a text that is no `what`, because its `part` … `why`."""
    shown = part if len(part) <= _SHOWN else part[:_SHOWN] + "…"
    return ValueError(f"not a {what}: {shown!r} {why}")
