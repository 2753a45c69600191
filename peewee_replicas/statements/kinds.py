"""The kinds of statements, and what is said of one statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["read", "query", "locking", "write", "session", "transaction", "unknown"]

RANK: Final[dict[Kind, int]] = {
    "read": 0,
    "query": 1,
    "unknown": 2,
    "session": 3,
    "locking": 4,
    "write": 5,
    "transaction": 6,
}
"""How strict each kind is: of two findings about one statement, the stricter one counts."""

NAMED_LOCK: Final = "a named lock"
USER_VARIABLE: Final = "a user variable"
PREPARED: Final = "a prepared statement"
TEMPORARY_TABLE: Final = "a temporary table"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement is, from its text alone.

    Attributes:
        kind: the statement kind.
        reason: why it is of that kind, in words. Shows no literal of the text.
        effect: what running it leaves on its connection that changes later SELECTs there;
            ``""`` for nothing.
        rules: what it was proven by. Where a server is met that these do not hold on, the classifier
            has others, and the text is to be classified again.
    """

    kind: Kind
    reason: str
    effect: str = ""
    rules: object = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class Findings:
    """What has been found out about a statement so far.

    Findings can only become stricter. So a part of a text that looks harmless never hides one
    that is not, whatever their order.
    """

    kind: Kind
    reason: str
    effect: str = ""

    def note(self, kind: Kind, reason: str, effect: str = "") -> None:
        """Add one finding: the stricter kind and the first effect are kept."""
        if RANK[kind] > RANK[self.kind]:
            self.kind, self.reason = kind, reason
        self.effect = self.effect or effect

    def merge(self, other: Findings) -> None:
        """Add what was found out about a part of the statement, or under another quoting mode."""
        self.note(other.kind, other.reason, other.effect)

    def statement(self, rules: object) -> Statement:
        """The result, which does not change any more.

        Parameters:
            rules: what the findings were made by.
        """
        return Statement(self.kind, self.reason, self.effect, rules)
