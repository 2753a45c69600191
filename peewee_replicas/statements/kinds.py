"""The kinds of statements, and what is said of one statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from .functions import Rules

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
        rules: what was known of the servers when it was classified. Once the classifier has learnt of a
            server with other functions it has other rules, and the text has to be classified again.
    """

    kind: Kind
    reason: str
    effect: str = ""
    rules: Rules | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class Findings:
    """What has been found out about a statement so far.

    Findings can only become stricter. So a part of a text that looks harmless never hides one that is not,
    whatever their order.

    Attributes:
        kind: the strictest kind so far.
        reason: why, with an ellipsis for `name`.
        effect: the first effect that was found, with an ellipsis for `effect_name`.
        name, effect_name: names out of the text. They are kept apart because a reason can show them only
            where they are names for sure, and no pieces of a literal.
    """

    kind: Kind
    reason: str
    effect: str = ""
    name: str = ""
    effect_name: str = ""

    def note(self, kind: Kind, reason: str, effect: str = "", name: str = "", effect_name: str = "") -> None:
        """Add one finding: the stricter kind and the first effect are kept."""
        if RANK[kind] > RANK[self.kind]:
            self.kind, self.reason, self.name = kind, reason, name
        if effect and not self.effect:
            self.effect, self.effect_name = effect, effect_name

    def merge(self, other: Findings) -> None:
        """Add what was found out about a part of the statement, or under another quoting mode."""
        self.note(other.kind, other.reason, other.effect, other.name, other.effect_name)

    def statement(self, rules: Rules, *, show_names: bool) -> Statement:
        """The result, which does not change any more.

        Parameters:
            rules: what the findings were made by.
            show_names: whether what looks like a name in the text is one for sure.
        """
        reason, effect = self.reason, self.effect
        if show_names:
            reason = reason.replace("…", self.name, 1) if self.name else reason
            effect = effect.replace("…", self.effect_name, 1) if self.effect_name else effect
        return Statement(self.kind, reason, effect, rules)
