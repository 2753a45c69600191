"""``pwreplicas explain``: where a statement goes, why, and at which token the proof of a read stops.

Makes decisions only: no I/O, no clock.
"""

from __future__ import annotations

from typing import NamedTuple

from peewee_replicas.statements.functions import Rules
from peewee_replicas.statements.tokens import OP, Token, fill_placeholders, lex, quoting_modes
from peewee_replicas.statements.verbs import examine

MOST_TOKENS = 2000
"""The longest statement, in tokens, whose proof is shown token by token."""


class Proof(NamedTuple):
    """How far the proof of a read comes.

    Attributes:
        tokens: the statement's tokens; none if the text as a whole cannot be a read.
        stops_at: the index of the token at which the proof stops; None if it does not, or as a whole.
        why: why it stops, in words; ``""`` for a proven read.
    """

    tokens: tuple[str, ...]
    stops_at: int | None
    why: str

    def lines(self) -> list[str]:
        """Return the proof as lines of text, one for each token."""
        if self.why and self.stops_at is None:
            return [f"  stop  (the whole text)    <- {self.why}"]
        last = len(self.tokens) if self.stops_at is None else self.stops_at + 1
        lines = [f"  ok    {token}" for token in self.tokens[:last]]
        if self.stops_at is not None:
            lines[-1] = f"  stop  {self.tokens[self.stops_at]}    <- {self.why}"
        return lines


def prove(sql: str, rules: Rules) -> Proof | None:
    """Return how far the proof of a read comes; None if the statement is too long to show.

    Parameters:
        rules: what is known about the servers.
    """
    text = sql if rules.sqlite else fill_placeholders(sql)
    if text is None:
        return Proof((), None, "a percent sign that is neither %s, %(name)s nor %%")
    proofs = []
    for mode in quoting_modes(text, rules.dialect):
        tokens = tuple(lex(text, rules.dialect, mode))
        if len(tokens) > MOST_TOKENS:
            return None
        proofs.append(_prove(tokens, rules))
    # The server may read the text under any of the modes, so the proof that comes least far counts.
    return min(proofs, key=lambda proof: (not proof.why, proof.stops_at or 0))


def _prove(tokens: tuple[Token, ...], rules: Rules) -> Proof:
    shown = tuple(token.text for token in tokens)
    if not tokens:
        return Proof((), None, "an empty text")
    ends = [index for index, token in enumerate(tokens) if (token.kind, token.text) == (OP, ";")]
    whole = examine(iter(tokens), rules)
    if whole.kind == "read":
        follower = (
            next((index for index in range(ends[0], len(tokens)) if index not in ends), None)
            if ends
            else None
        )
        return Proof(shown, follower, "" if follower is None else "several statements in one text")
    # A beginning may be no read only because it is incomplete. Findings never become milder, so the proof
    # stops at the first token from which on no longer beginning is a read either.
    stop = len(tokens) - 1
    while stop > 0 and examine(iter(tokens[:stop]), rules).kind != "read":
        stop -= 1
    why = whole.reason.replace("…", whole.name, 1) if whole.name else whole.reason
    return Proof(shown, stop, why)
