"""The kinds of statements, and the result of classifying one statement."""

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
"""How strict each kind is: of two findings about one statement, the stricter wins."""

NAMED_LOCK: Final = "a named lock"
USER_VARIABLE: Final = "a user variable"
PREPARED: Final = "a prepared statement"
TEMPORARY_TABLE: Final = "a temporary table"
NEXT_TRANSACTION: Final = "settings of its next transaction"
"""The only state that a connection loses again without being told: the next transaction uses it up."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The classification of a statement, from its text alone.

    Attributes:
        kind: the statement kind.
        reason: why it is of that kind, in words, without any literal of the text.
        effect: the state that it leaves on its connection and that changes later SELECTs there; ``""`` if
            there is none.
        rules: the rules it was classified by. When the classifier learns of a server with other functions,
            its rules change, and the text must be classified again.
    """

    kind: Kind
    reason: str
    effect: str = ""
    rules: Rules | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class Findings:
    """What is known about a statement so far.

    Findings can only become stricter. So a harmless part of a text never hides a harmful one, whatever
    their order.

    Attributes:
        kind: the strictest kind so far.
        reason: why, with an ellipsis for `name`.
        effect: the first effect that was found, with an ellipsis for `effect_name`.
        name, effect_name: names from the text. They are kept separately because a reason may show them only
            if they are certainly names and not pieces of a literal.
    """

    kind: Kind
    reason: str
    effect: str = ""
    name: str = ""
    effect_name: str = ""

    def note(self, kind: Kind, reason: str, effect: str = "", name: str = "", effect_name: str = "") -> None:
        """Add one finding; keep the stricter kind and the first effect."""
        if RANK[kind] > RANK[self.kind]:
            self.kind, self.reason, self.name = kind, reason, name
        if effect and not self.effect:
            self.effect, self.effect_name = effect, effect_name

    def merge(self, other: Findings) -> None:
        """Add the findings about a part of the statement, or under another quoting mode."""
        self.note(other.kind, other.reason, other.effect, other.name, other.effect_name)

    def statement(self, rules: Rules, *, show_names: bool) -> Statement:
        """Return the final classification.

        Parameters:
            rules: the rules that the findings are based on.
            show_names: whether what looks like a name in the text certainly is a name.
        """
        reason, effect = self.reason, self.effect
        if show_names:
            reason = reason.replace("…", self.name, 1) if self.name else reason
            effect = effect.replace("…", self.effect_name, 1) if self.effect_name else effect
        return Statement(self.kind, reason, effect, rules)
