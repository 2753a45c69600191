"""Statements judged by their first words; queries are handed to the proof."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from .read_proof import PREPARED, QUERY_HEADS, TEMPORARY_TABLE, Kind, Rules, Scan, Statement, Verdict
from .set_variables import assignments
from .tokens import BAD, EXEC, OP, QUOTED, WORD, Token

QUICK_LENGTH: Final = 8 * 1024
"""Characters: of longer writes only the first word is read."""

_FIRST_WORD = re.compile(
    r"(?:[ \t\n\v\f\r]+|/\*(?![+!mM])[^*]*\*+(?:[^/*][^*]*\*+)*/|(?:--[ \t]|\#)[^\n]*\n)*(\w+)",
    re.ASCII,
)
_LONG = frozenset(("CALL", "INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD"))
_DATA = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD"))
_WRITE_WORDS = """
ALTER BACKUP BINLOG CACHE CALL CHANGE CHECK CLONE CREATE DO DROP FLUSH GRANT IMPORT INSTALL KILL
MERGE OPTIMIZE PURGE REINDEX RENAME REPAIR RESET RESTART REVOKE SHUTDOWN STOP TRUNCATE UNINSTALL
VACUUM
"""
_WRITES = frozenset(_WRITE_WORDS.split())
_EXPRESSIONS = _DATA | {"CALL", "DO", "MERGE"}
_TRANSACTION = frozenset(("COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA", "LOCK", "UNLOCK", "END"))
_SESSION = {
    "USE": "another schema",
    "HANDLER": "HANDLER",
    "PREPARE": PREPARED,
    "EXECUTE": PREPARED,
    "DEALLOCATE": "",
    "ATTACH": "an attached database",
    "DETACH": "",
    "GET": "",
    "SIGNAL": "",
    "RESIGNAL": "",
}
_COMPOUND = frozenset(("IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR", "DECLARE", "RETURN"))
_BODIES = frozenset(("PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"))
_OBJECTS = frozenset(("TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA", "USER", "ROLE", "SERVER", "SEQUENCE"))
_EXPLAINED = QUERY_HEADS | _DATA
_PROVEN: Final = "a query of nothing but tables and known pure functions"


def quick(text: str) -> Statement | None:
    """The verdict on a long text whose first word says it all, without reading the rest."""
    if len(text) <= QUICK_LENGTH:
        return None
    match = _FIRST_WORD.match(text)
    if match is None or match[1].upper() not in _LONG:
        return None
    return Statement("write", f"{match[1].upper()} writes")


def judge(tokens: Iterable[Token], rules: Rules) -> Verdict:
    """The verdict on the statement that `tokens` begin with.

    An iterator stands behind its semicolon afterwards, unless it is a body of statements.
    """
    executable = False

    def plain() -> Iterator[Token]:
        # What an executable comment holds is read as the code that it may be.
        nonlocal executable
        for token in tokens:
            if token[0] == EXEC:
                executable = True
            elif token[1] == ";" and token[0] == OP:
                return
            else:
                yield token

    stream = plain()
    first = next(stream, None)
    if first is None:
        return Verdict("unknown", "an empty text")
    verdict = _judge(first, stream, rules)
    for token in stream if verdict.reason != COMPOUND else ():  # what the verdict did not need
        if token.kind == BAD:
            verdict.note("unknown", token.text)
    if executable:
        verdict.note("unknown", "an executable comment")
    return verdict


def _judge(first: Token, stream: Iterator[Token], rules: Rules) -> Verdict:
    head = first.text.upper() if first.kind == WORD else ""
    if head in QUERY_HEADS or (first.kind == OP and first.text == "("):
        return _query(chain((first,), stream), rules)
    if first.kind == BAD:
        return Verdict("unknown", first.text)
    special = _SPECIAL.get(head)
    if special is not None:
        return special(head, stream, rules)
    if head in _EXPRESSIONS:
        verdict = Verdict("write", f"{head} writes")
        Scan(rules, verdict).run(stream, query=False)
        return verdict
    if head in _WRITES:
        return Verdict("write", f"{head} writes or changes the server")
    if head in _TRANSACTION:
        return Verdict("transaction", f"{head} belongs to transactions")
    if head in _SESSION:
        return Verdict("session", f"{head} belongs to the session", _SESSION[head])
    if head in _COMPOUND:
        return Verdict("unknown", COMPOUND)
    return Verdict("unknown", f"no statement known begins with {first.text!a}")


def _query(tokens: Iterable[Token], rules: Rules, kind: Kind = "read", reason: str = "") -> Verdict:
    verdict = Verdict(kind, reason or _PROVEN)
    Scan(rules, verdict).run(tokens)
    return verdict


COMPOUND: Final = "a body of statements"


def _create(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    verdict = Verdict("write", f"{head} writes")
    for token, _ in zip(stream, range(24), strict=False):
        word = token.text.upper() if token.kind == WORD else ""
        if word in ("TEMPORARY", "TEMP") and head == "CREATE":
            verdict.effect = TEMPORARY_TABLE
        elif word in _BODIES:
            verdict.reason = COMPOUND
            break
        elif word == "PREPARE":
            return Verdict("session", "DROP PREPARE belongs to the session")
        elif word in _OBJECTS:
            break
    return verdict


def _begin(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    token = next(stream, None)
    word = token.text.upper() if token is not None and token.kind == WORD else ""
    if token is None or word in _BEGINNINGS:
        return Verdict("transaction", "BEGIN opens a transaction")
    return Verdict("unknown", COMPOUND)


_BEGINNINGS = frozenset(("WORK", "TRANSACTION", "IMMEDIATE", "EXCLUSIVE", "DEFERRED", "CONCURRENT"))


def _start(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    token = next(stream, None)
    if token is not None and token.kind == WORD and token.text.upper() == "TRANSACTION":
        return Verdict("transaction", "START TRANSACTION opens a transaction")
    return Verdict("write", "START changes the server")


def _explain(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    verdict = Verdict("query", f"{head} describes")
    for token in stream:
        word = token.text.upper() if token.kind == WORD else ""
        if word in _EXPLAINED or (token.kind == OP and token.text == "("):
            if word in _DATA:
                verdict.note("write", f"{head} of {word} may execute it")
                Scan(rules, verdict).run(stream, query=False)
            else:
                verdict.take(_query(chain((token,), stream), rules, "query", verdict.reason))
        elif word == "INTO" or token.text == "@":
            verdict.note("session", f"{head} INTO keeps its result in the session", "a user variable")
        elif token.kind == BAD:
            verdict.note("unknown", token.text)
    return verdict


def _analyze(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    if rules.sqlite:
        return Verdict("write", "ANALYZE writes")
    token = next(stream, None)
    word = token.text.upper() if token is not None and token.kind == WORD else ""
    if token is None or word in ("TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"):
        return Verdict("write", "ANALYZE TABLE writes statistics")
    return _explain(head, chain((token,), stream), rules)


def _show(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    verdict = Verdict("query", "SHOW describes the server it runs on")
    second = next(stream, None)
    word = second.text.upper() if second is not None and second.kind == WORD else ""
    if word in ("WARNINGS", "ERRORS", "COUNT", "PROFILE", "PROFILES"):
        return Verdict("session", f"SHOW {word} belongs to the session")
    for token in chain((second,) if second is not None else (), stream):
        if token.kind == WORD and token.text.upper() == "WHERE":
            Scan(rules, verdict).run(stream, query=False)
        elif token.kind == BAD:
            verdict.note("unknown", token.text)
    return verdict


def _set(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    tokens = list(stream)
    if tokens and tokens[0].kind == WORD and tokens[0].text.upper() == "STATEMENT":
        verdict = Verdict("unknown", "SET STATEMENT runs a statement under other settings")
        for at, token in enumerate(tokens):
            if token.kind == WORD and token.text.upper() == "FOR":
                verdict.take(judge(tokens[at + 1 :], rules))
                break
        return verdict
    verdict = assignments(tokens)
    Scan(rules, verdict).run(tokens, query=False)
    return verdict


_PRAGMA_WORDS = """
ANALYSIS_LIMIT APPLICATION_ID AUTOMATIC_INDEX AUTO_VACUUM BUSY_TIMEOUT CACHE_SIZE CACHE_SPILL
CHECKPOINT_FULLFSYNC COLLATION_LIST COMPILE_OPTIONS DATABASE_LIST DATA_VERSION DEFER_FOREIGN_KEYS
FOREIGN_KEYS FOREIGN_KEY_CHECK FOREIGN_KEY_LIST FULLFSYNC FUNCTION_LIST HARD_HEAP_LIMIT
INCREMENTAL_VACUUM INDEX_INFO INDEX_LIST INDEX_XINFO INTEGRITY_CHECK JOURNAL_MODE JOURNAL_SIZE_LIMIT
LOCKING_MODE MAX_PAGE_COUNT MMAP_SIZE MODULE_LIST OPTIMIZE PAGE_COUNT PAGE_SIZE PRAGMA_LIST
QUICK_CHECK RECURSIVE_TRIGGERS SECURE_DELETE SOFT_HEAP_LIMIT SYNCHRONOUS TABLE_INFO TABLE_LIST
TABLE_XINFO TEMP_STORE THREADS USER_VERSION WAL_AUTOCHECKPOINT WAL_CHECKPOINT
"""
_HARMLESS_PRAGMAS = frozenset(_PRAGMA_WORDS.split())


def _pragma(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    verdict = Verdict("session", "PRAGMA belongs to the connection")
    name = ""
    for token in stream:
        if token.kind in (WORD, QUOTED) and not verdict.effect:
            name = token.text
        elif token.text in ("=", "("):
            if name.upper() not in _HARMLESS_PRAGMAS:
                verdict.effect = f"PRAGMA {name.lower()}"
            break
    return verdict


def _checksum(head: str, stream: Iterator[Token], rules: Rules) -> Verdict:
    return Verdict("query", f"{head} describes the server it runs on")


_SPECIAL = {
    "CREATE": _create,
    "ALTER": _create,
    "DROP": _create,
    "BEGIN": _begin,
    "START": _start,
    "EXPLAIN": _explain,
    "DESCRIBE": _explain,
    "DESC": _explain,
    "ANALYZE": _analyze,
    "SHOW": _show,
    "SET": _set,
    "PRAGMA": _pragma,
    "CHECKSUM": _checksum,
    "HELP": _checksum,
}
