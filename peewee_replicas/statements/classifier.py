"""Classify an SQL text by the text alone.

A text is a ``read`` only if that is proven for every way in which the server may read its quotes. In doubt
it is something else, and goes to the primary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import Final

from ..concurrency import new_lock
from . import functions
from .functions import Rules, rules_for
from .kinds import RANK, Findings, Kind, Statement
from .redaction import redacted, shown
from .tokens import OP, Dialect, QuotingMode, Token, fill_placeholders, lex, quoting_modes
from .verbs import COMPOUND, examine, long_write

__all__ = ["Classifier", "Dialect", "Kind", "Statement"]

KEEP_LENGTH: Final = 8 * 1024
"""The longest text to remember, in characters. Few longer texts are used twice."""
KEEP_ENTRIES: Final = 4096
"""The greatest number of texts to remember."""
KEEP_CHARACTERS: Final = 4 * 1024 * 1024
"""The greatest total length of the remembered texts, in characters."""
KEEP_DEMOTED: Final = 4096
"""The greatest number of texts to remember that a server has refused as writes."""

_DEMOTED = Statement("unknown", "a server has refused this text as a write")
_NO_TEXT = Statement("unknown", "bytes, not text")
_FORMAT = Statement("unknown", "a percent sign that is neither %s, %(name)s nor %%: the driver would read it")
_NAME = re.compile(r"[\w$]+(\.[\w$]+)?", re.ASCII)


class Classifier:
    """Classifies statements, and remembers the results for recent texts.

    Parameters:
        dialect: the kind of server the text may go to. ``None`` means MySQL or MariaDB, not known yet;
            proofs then hold for both.
        pure_functions: stored functions that the user vouches for: ``"f"`` for ``f(…)`` and
            ``"schema.f"`` for ``schema.f(…)``, in any case and any quotes.
        version: the server's version, as in its greeting. Without it, a function counts as built in only
            if every release has it.

    Attributes:
        rules: what is known about the servers now. Each statement has the rules it was classified by.

    Raises:
        ValueError: the dialect or a function's name is invalid.
    """

    def __init__(
        self, dialect: Dialect | None, pure_functions: Iterable[str] = (), version: str = ""
    ) -> None:
        if dialect not in (None, "mysql", "mariadb", "sqlite"):
            raise ValueError(f"dialect must be 'mysql', 'mariadb', 'sqlite' or None, not {dialect!r}")
        self._vouched = _vouched(pure_functions)
        # The servers seen so far. Before the first one, `rules` hold on every possible server.
        self._servers: frozenset[tuple[Dialect, str]] = frozenset()
        self.rules = rules_for(dialect, version, self._vouched)
        if dialect is not None and version:
            self._servers = frozenset({(dialect, version)})
        self._recent: dict[str, Statement] = {}
        self._older: dict[str, Statement] = {}
        self._characters = 0
        self._demoted: dict[bytes, None] = {}
        self._lock = new_lock()

    def learn_server(self, dialect: Dialect, version: str) -> None:
        """Record that statements go to a server of this dialect and version.

        A function counts as built in only if every server seen so far has it: a read on one of them could
        call a stored function on another. A version counts until the program ends, since connections to
        such a server may still be open. A text that a server has refused as a write never counts as a read
        again.

        Parameters:
            dialect: the server's dialect.
            version: as in the server's greeting; ``""`` if it has none.
        """
        if (dialect, version) in self._servers:
            return  # the usual case: this is called for each new connection
        with self._lock:
            learnt = rules_for(dialect, version, self._vouched)
            rules = self.rules & learnt if self._servers else learnt
            self._servers |= {(dialect, version)}
            if rules != self.rules:
                self.rules = rules
                self._recent, self._older, self._characters = {}, {}, 0

    def classify(self, sql: str) -> Statement:
        """Classify `sql`, a template whose placeholders are not filled in yet."""
        try:
            found = self._recent.get(sql)
        except TypeError:
            if isinstance(sql, bytearray):  # drivers take it too, but it has no hash
                return _NO_TEXT
            raise
        if found is not None:
            return found
        return self._miss(sql)

    def classify_sent(self, sql: str) -> Statement:
        """Classify `sql` as it is sent to the server, where a percent sign is an operator."""
        return self._now_or_demoted(sql, long_write(sql) or _classify(sql, self.rules))

    def demote(self, sql: str) -> None:
        """Record that a server has refused `sql` as a write: from now on it is not a read."""
        with self._lock:
            key = _digest(sql)
            self._demoted.pop(key, None)
            while len(self._demoted) >= KEEP_DEMOTED:
                # Iterate over a copy, because a signal handler may demote a statement at the same time.
                self._demoted.pop(next(iter(list(self._demoted))), None)
            self._demoted[key] = None
            self._older.pop(sql, None)
            self._recent.pop(sql, None)

    def _miss(self, sql: str) -> Statement:
        if not isinstance(sql, str):  # drivers take bytes too
            return _NO_TEXT
        rules = self.rules
        found = self._older.get(sql)
        if found is None:
            found = self._template(sql, rules)
        if len(sql) > KEEP_LENGTH:
            return self._now_or_demoted(sql, found)
        with self._lock:
            # Under the lock, because the text may have been demoted or the rules may have changed since;
            # it must not be remembered as a read then.
            found = self._now_or_demoted(sql, found)
            if rules is not self.rules:
                return found
            if len(self._recent) >= KEEP_ENTRIES // 2 or self._characters >= KEEP_CHARACTERS // 2:
                # Drop the older half. Texts still in use have been copied to the newer half by now.
                self._older, self._recent, self._characters = self._recent, {}, 0
            self._recent[sql] = found
            self._characters += len(sql)
        return found

    def _template(self, sql: str, rules: Rules) -> Statement:
        known = long_write(sql)
        if known is not None:
            return known
        if rules.sqlite:
            return _classify(sql, rules)
        filled = fill_placeholders(sql)
        if filled is not None:
            return _classify(filled, rules)
        # The driver may still be able to send it. So a write counts as a write, but no text as a read.
        found = _classify(sql, rules)
        return _FORMAT if RANK[found.kind] < RANK["unknown"] else found

    def _now_or_demoted(self, sql: str, found: Statement) -> Statement:
        if self._demoted and RANK[found.kind] <= RANK["query"] and _digest(sql) in self._demoted:
            return _DEMOTED
        return found


def _vouched(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise ValueError(
            f"pure_functions must be names, not the one string {redacted(names)!r}: use a list of them"
        )
    found = []
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            what = redacted(name) if isinstance(name, str) else shown(name)
            raise ValueError(
                f"pure_functions holds {what!r}: a function's name, or schema.name, is needed, "
                "in letters, digits, _ and $, without quotes or parentheses"
            )
        upper = name.upper()
        if upper in functions.LOCKING | functions.SESSION | functions.WRITING:
            raise ValueError(f"pure_functions holds {name!r}, a built-in that is never a pure read")
        found.append(name.lower())
    return found


def _digest(sql: str) -> bytes:
    return blake2b(sql.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _classify(text: str, rules: Rules) -> Statement:
    """Return the strictest result over all quoting modes, because the server's own mode is unknown."""
    each = [_under(text, rules, mode) for mode in quoting_modes(text, rules.dialect)]
    # A name under one mode can be a piece of a literal under the server's mode.
    agreed = all(found == each[0] for found in each)
    findings = each[0]
    for found in each[1:]:
        findings.merge(found)
    return findings.statement(rules, show_names=agreed)


def _under(text: str, rules: Rules, mode: QuotingMode) -> Findings:
    """Classify `text` under one quoting mode."""
    tokens = lex(text, rules.dialect, mode)
    findings = examine(tokens, rules)
    if findings.reason == COMPOUND:
        return findings
    follower = _next_statement(tokens)
    if follower is None:
        return findings
    whole = Findings("unknown", "several statements in one text", findings.effect, "", findings.effect_name)
    while follower is not None:
        found = examine(chain((follower,), tokens), rules)
        whole.note("unknown", whole.reason, found.effect, effect_name=found.effect_name)
        follower = _next_statement(tokens)
    return whole


def _next_statement(tokens: Iterator[Token]) -> Token | None:
    """Return the first token after the semicolons that end a statement."""
    for token in tokens:
        if token.kind != OP or token.text != ";":
            return token
    return None
