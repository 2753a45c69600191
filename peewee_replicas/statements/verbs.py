"""Classify a statement by its first word. Queries go on to the read proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from .functions import Rules
from .kinds import PREPARED, TEMPORARY_TABLE, USER_VARIABLE, Findings, Kind, Statement
from .read_proof import QUERY_VERBS, Scan
from .set_variables import examine_set
from .tokens import EXECUTABLE, OP, QUOTED, UNREADABLE, WORD, Token, first_word, shown

LONG_WRITE: Final = 8 * 1024
"""A length in characters: only the first word of a longer write is read."""

COMPOUND: Final = "a body of statements"
"""The reason given for a text whose semicolons do not end the statement, such as a procedure's."""

_LONG_WRITES = frozenset(("CALL", "INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD"))
_DATA = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD"))
_WRITE_WORDS = """
ALTER BACKUP BINLOG CACHE CALL CHANGE CHECK CLONE CREATE DO DROP FLUSH GRANT IMPORT INSTALL KILL
MERGE OPTIMIZE PURGE REINDEX RENAME REPAIR RESET RESTART REVOKE SHUTDOWN STOP TRUNCATE UNINSTALL
VACUUM
"""
_WRITES = frozenset(_WRITE_WORDS.split())
# Writes that contain expressions, which are scanned too: `CALL p(@a := 1)` sets a variable of the session.
_WITH_EXPRESSIONS = _DATA | {"CALL", "DO", "MERGE"}
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
_WITH_BODY = frozenset(("PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"))
_WITHOUT_BODY = frozenset(
    ("TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA", "USER", "ROLE", "SERVER", "SEQUENCE")
)
_EXPLAINED = QUERY_VERBS | _DATA
_PROVEN: Final = "a query of nothing but tables and known pure functions"


def long_write(text: str) -> Statement | None:
    """Classify a long write by its first word; return ``None`` for any other text.

    A bulk insert can have megabytes, and nothing in it could turn it into anything but a write.
    """
    if len(text) <= LONG_WRITE:
        return None
    verb = first_word(text)
    return Statement("write", f"{verb} writes") if verb in _LONG_WRITES else None


def examine(tokens: Iterable[Token], rules: Rules) -> Findings:
    """Return the findings about the statement that `tokens` begin with.

    An iterator is read up to and including the semicolon that ends the statement. Only the beginning of a
    body of statements (:data:`COMPOUND`) is read.
    """
    executable = False

    def one_statement() -> Iterator[Token]:
        # Servers differ in which executable comments they run. So the content of the comment is read as
        # code here, and the text is never proven to be a read.
        nonlocal executable
        for token in tokens:
            if token[0] == EXECUTABLE:
                executable = True
            elif token[1] == ";" and token[0] == OP:
                return
            else:
                yield token

    stream = one_statement()
    first = next(stream, None)
    if first is None:
        return Findings("unknown", "an empty text")
    findings = _by_verb(first, stream, rules)
    # Something later in the statement can still make it unreadable.
    for token in stream if findings.reason != COMPOUND else ():
        if token.kind == UNREADABLE:
            findings.note("unknown", token.text)
    if executable:
        findings.note("unknown", "an executable comment")
    return findings


def _by_verb(first: Token, stream: Iterator[Token], rules: Rules) -> Findings:
    verb = first.text.upper() if first.kind == WORD else ""
    if verb in QUERY_VERBS or (first.kind == OP and first.text == "("):
        return _query(chain((first,), stream), rules)
    if first.kind == UNREADABLE:
        return Findings("unknown", first.text)
    special = _SPECIAL.get(verb)
    if special is not None:
        return special(verb, stream, rules)
    if verb in _WITH_EXPRESSIONS:
        findings = Findings("write", f"{verb} writes")
        Scan(rules, findings).run(stream, query=False)
        return findings
    if verb in _WRITES:
        return Findings("write", f"{verb} writes or changes the server")
    if verb in _TRANSACTION:
        return Findings("transaction", f"{verb} belongs to transactions")
    if verb in _SESSION:
        return Findings("session", f"{verb} belongs to the session", _SESSION[verb])
    if verb in _COMPOUND:
        return Findings("unknown", COMPOUND)
    return Findings("unknown", "no known statement begins with …", name=shown(first))


def _query(tokens: Iterable[Token], rules: Rules, kind: Kind = "read", reason: str = "") -> Findings:
    findings = Findings(kind, reason or _PROVEN)
    Scan(rules, findings).run(tokens)
    return findings


def _word(token: Token | None) -> str:
    return token.text.upper() if token is not None and token.kind == WORD else ""


def _create(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    """Classify CREATE, ALTER and DROP."""
    findings = Findings("write", f"{verb} writes")
    # The first few words name the type of the object, after options such as DEFINER.
    for token, _ in zip(stream, range(24), strict=False):
        word = _word(token)
        if word in ("TEMPORARY", "TEMP") and verb == "CREATE":
            findings.effect = TEMPORARY_TABLE
        elif word in _WITH_BODY:
            findings.reason = COMPOUND
            break
        elif word == "PREPARE":
            return Findings("session", "DROP PREPARE belongs to the session")
        elif word in _WITHOUT_BODY:
            break
    return findings


def _begin(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    token = next(stream, None)
    if token is None or _word(token) in _AFTER_BEGIN:
        return Findings("transaction", "BEGIN opens a transaction")
    return Findings("unknown", COMPOUND)


_AFTER_BEGIN = frozenset(("WORK", "TRANSACTION", "IMMEDIATE", "EXCLUSIVE", "DEFERRED", "CONCURRENT"))


def _start(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    if _word(next(stream, None)) == "TRANSACTION":
        return Findings("transaction", "START TRANSACTION opens a transaction")
    return Findings("write", "START changes the server")


def _explain(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    findings = Findings("query", f"{verb} describes")
    for token in stream:
        word = _word(token)
        if word in _EXPLAINED or (token.kind == OP and token.text == "("):
            if word in _DATA:
                findings.note("write", f"{verb} of {word} may execute it")
                Scan(rules, findings).run(stream, query=False)
            else:
                findings.merge(_query(chain((token,), stream), rules, "query", findings.reason))
        elif word == "INTO" or token.text == "@":
            findings.note("session", f"{verb} INTO keeps its result in the session", USER_VARIABLE)
        elif token.kind == UNREADABLE:
            findings.note("unknown", token.text)
    return findings


def _analyze(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    if rules.sqlite:
        return Findings("write", "ANALYZE writes")
    token = next(stream, None)
    if token is None or _word(token) in ("TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"):
        return Findings("write", "ANALYZE TABLE writes statistics")
    return _explain(verb, chain((token,), stream), rules)


def _show(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    findings = Findings("query", "SHOW describes the server it runs on")
    second = next(stream, None)
    word = _word(second)
    if word in ("WARNINGS", "ERRORS", "COUNT", "PROFILE", "PROFILES"):
        return Findings("session", f"SHOW {word} belongs to the session")
    for token in chain((second,) if second is not None else (), stream):
        if _word(token) == "WHERE":
            Scan(rules, findings).run(stream, query=False)
        elif token.kind == UNREADABLE:
            findings.note("unknown", token.text)
    return findings


def _set(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    tokens = list(stream)
    if tokens and _word(tokens[0]) == "STATEMENT":
        findings = Findings("unknown", "SET STATEMENT runs a statement under other settings")
        for at, token in enumerate(tokens):
            if _word(token) == "FOR":
                findings.merge(examine(tokens[at + 1 :], rules))
                break
        return findings
    findings = examine_set(tokens)
    Scan(rules, findings).run(tokens, query=False)
    return findings


_PRAGMA_WORDS = """
ANALYSIS_LIMIT APPLICATION_ID AUTOMATIC_INDEX AUTO_VACUUM BUSY_TIMEOUT CACHE_SIZE CACHE_SPILL
CHECKPOINT_FULLFSYNC COLLATION_LIST COMPILE_OPTIONS DATABASE_LIST DATA_VERSION DEFER_FOREIGN_KEYS
FOREIGN_KEYS FOREIGN_KEY_CHECK FOREIGN_KEY_LIST FULLFSYNC FUNCTION_LIST HARD_HEAP_LIMIT
INCREMENTAL_VACUUM INDEX_INFO INDEX_LIST INDEX_XINFO INTEGRITY_CHECK JOURNAL_MODE JOURNAL_SIZE_LIMIT
LOCKING_MODE MAX_PAGE_COUNT MMAP_SIZE MODULE_LIST OPTIMIZE PAGE_COUNT PAGE_SIZE PRAGMA_LIST
QUICK_CHECK RECURSIVE_TRIGGERS SECURE_DELETE SOFT_HEAP_LIMIT SYNCHRONOUS TABLE_INFO TABLE_LIST
TABLE_XINFO TEMP_STORE THREADS USER_VERSION WAL_AUTOCHECKPOINT WAL_CHECKPOINT
"""
# Pragmas that do not change what later SELECTs return.
_HARMLESS_PRAGMAS = frozenset(_PRAGMA_WORDS.split())


def _pragma(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    findings = Findings("session", "PRAGMA belongs to the connection")
    name = ""
    for token in stream:
        if token.kind in (WORD, QUOTED) and not findings.effect:
            name = token.text
        elif token.text in ("=", "("):
            if name.upper() == "JOURNAL_MODE":
                # Alone among the pragmas that change the file, the guard does not refuse it.
                return Findings("write", "PRAGMA journal_mode = … changes the database's file")
            if name.upper() not in _HARMLESS_PRAGMAS:
                findings.effect, findings.effect_name = "PRAGMA …", name.lower()
            break
    return findings


def _describe_server(verb: str, stream: Iterator[Token], rules: Rules) -> Findings:
    return Findings("query", f"{verb} describes the server it runs on")


_SPECIAL: dict[str, Callable[[str, Iterator[Token], Rules], Findings]] = {
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
    "CHECKSUM": _describe_server,
    "HELP": _describe_server,
}
