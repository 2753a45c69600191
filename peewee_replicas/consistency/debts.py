"""Decides whether a statement on the primary leaves a debt: its context must see the primary's position, and
the server did not report all of it. No I/O, no clock."""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from ..statements.tokens import QuotingMode, first_word, lex

# Statements that commit at most one transaction, whose position the server then reports. Triggers and
# functions that they call run inside that transaction.
_ONE_COMMIT = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
_ENDS = frozenset({"COMMIT", "ROLLBACK"})
# Reads may show what others have committed, and so leave a debt. A read inside a transaction commits nothing,
# so its debt counts when the transaction ends.
_READS = frozenset({"SELECT", "WITH", "TABLE", "VALUES", "SHOW", "DESCRIBE", "DESC", "EXPLAIN"})
# Statements that neither read nor change data that a replica has to show.
_SILENT = frozenset({"SAVEPOINT", "RELEASE", "USE", "LOCK", "UNLOCK", "DEALLOCATE"})
_BEGINS = ("BEGIN", b"BEGIN", "START TRANSACTION", b"START TRANSACTION")


def _starts(*words: str) -> frozenset[str | bytes]:
    cases = [case for word in words for case in (word, word.lower())]
    return frozenset([*cases, *(case.encode() for case in cases)])


_WRITES = ("INSERT ", "UPDATE ", "DELETE ", "REPLACE")
PLAIN_WRITES: Final = _starts(*_WRITES, "COMMIT")
"""The first seven characters of nearly all writes. A write that reported its position leaves no debt."""
PLAIN_BEGIN: Final = _starts("BEGIN")
PLAIN_INSIDE: Final = _starts(*_WRITES)
"""The same for statements inside transactions, which leave no debt before the transaction ends."""


class Left(NamedTuple):
    """The state after a statement.

    Attributes:
        owes: there is a debt: the context must see the primary's present position.
        transaction_has_read: the open transaction has read something, or a statement in it has failed or
            changed nothing.
    """

    owes: bool
    transaction_has_read: bool


def left_by(
    text: str | bytes,
    *,
    succeeded: bool,
    reported: bool,
    was_open: bool,
    is_open: bool,
    transaction_has_read: bool,
    commit_covers_reads: bool,
    more_results: bool = False,
    changed_rows: int = 1,
) -> Left:
    """Return whether a statement that has ended on the primary leaves a debt.

    Parameters:
        text: the statement.
        succeeded: whether it ended without an error.
        reported: whether the server reported a position for it. After several commits this is only the last
            one's, and with several GTID domains it says nothing about the other domains.
        was_open, is_open: whether a transaction was open before the statement, and is open after it.
        transaction_has_read: whether the transaction had read something before, or a statement had failed.
        commit_covers_reads: whether a commit's own position covers everything its transaction has read.
        more_results: whether further results follow, from more statements or a procedure.
        changed_rows: how many rows it has changed. A write that changed none has found what others wrote.
    """
    word = first_word(text)
    silent = succeeded and not more_results and _is_silent(word, text)
    plain = word in _ONE_COMMIT and not more_results
    ends = silent or (word in _ENDS and not more_results)
    owes_for_reads = transaction_has_read and not commit_covers_reads
    if not is_open:
        if reported:
            return Left(owes_for_reads or not (plain or ends), False)
        # After a ROLLBACK, or a COMMIT without a write, the program has still seen the transaction's reads.
        return Left(was_open or not silent, False)
    harmless = succeeded and ((plain and changed_rows > 0) or silent)
    if reported and ends:  # the transaction before this one has been committed
        return Left(owes_for_reads, False)
    # Reads leave their debt when the transaction ends, but a procedure, for example, may commit before that.
    inside = plain or ends or (word in _READS and not more_results)
    return Left(not inside, transaction_has_read or not harmless)


def _is_silent(word: str, text: str | bytes) -> bool:
    if word in _SILENT or text in _BEGINS:
        return True
    if word not in ("SET", "START", "BEGIN"):
        return False
    whole = text if isinstance(text, str) else bytes(text).decode("latin1")
    second = next((token.text.upper() for token in islice(lex(whole, None, QuotingMode()), 1, 2)), "")
    if word == "START":
        return second == "TRANSACTION"
    if word == "BEGIN":
        return second in ("", ";", "WORK")  # BEGIN NOT ATOMIC is a block of statements
    # An assignment can call a function that writes, and SET STATEMENT runs any statement.
    return second != "STATEMENT" and not any(sign in whole for sign in ("(", "/*!", "/*M!"))
