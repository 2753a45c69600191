"""Find out what a SET statement changes: the session, the server, an account or a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .kinds import NEXT_TRANSACTION, USER_VARIABLE, Findings
from .tokens import OP, QUOTED, WORD, Token

_HARMLESS_NAMES = """
alter_algorithm auto_increment_increment auto_increment_offset bulk_insert_buffer_size
default_storage_engine default_tmp_storage_engine foreign_key_checks
idle_readonly_transaction_timeout idle_transaction_timeout idle_write_transaction_timeout
innodb_ft_enable_stopword innodb_lock_wait_timeout innodb_strict_mode innodb_table_locks
interactive_timeout join_buffer_size lock_wait_timeout log_slow_query log_slow_query_time
long_query_time low_priority_updates max_error_count
net_buffer_length net_read_timeout net_retry_count net_write_timeout preload_buffer_size
profiling_history_size query_cache_type read_buffer_size read_rnd_buffer_size
select_into_buffer_size select_into_disk_sync session_track_gtids session_track_schema
session_track_state_change session_track_system_variables session_track_transaction_info
slow_query_log sort_buffer_size sql_log_off sql_notes sql_safe_updates sql_warnings unique_checks
updatable_views_with_limit wait_timeout
"""
HARMLESS: Final = frozenset(_HARMLESS_NAMES.split())
"""Session variables that change neither what a SELECT returns nor how long it may take.

Not listed: ``sql_log_bin``, because a write without it never reaches a replica, and ``profiling``, because
SHOW PROFILES reports the statements of its own connection."""

_GLOBAL = frozenset(("GLOBAL", "PERSIST", "PERSIST_ONLY"))
_LOCAL = frozenset(("SESSION", "LOCAL"))


def examine_set(tokens: Iterable[Token]) -> Findings:
    """Return the findings about the tokens after the word SET."""
    findings = Findings("session", "SET belongs to the session")
    for assignment in _assignments(tokens):
        _examine_assignment(assignment, findings)
    return findings


def _assignments(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """Yield the first tokens of each assignment; commas separate assignments."""
    depth = 0
    assignment: list[Token] = []
    for token in tokens:
        if token.kind == OP:
            depth += (token.text == "(") - (token.text == ")")
            if token.text == "," and depth == 0:
                yield assignment
                assignment = []
                continue
        if len(assignment) < 8:  # enough for the name of the variable; values can be very long
            assignment.append(token)
    yield assignment


def _examine_assignment(assignment: list[Token], findings: Findings) -> None:
    words = [t.text.upper() if t.kind in (WORD, QUOTED) else t.text for t in assignment]
    if not words:
        findings.note("unknown", "a SET that sets nothing")
        return
    if words[0] == "@":
        findings.note("session", "user variables belong to the session", USER_VARIABLE)
        return
    scope = ""
    if words[0] == "@@":
        del words[0], assignment[0]
        if words[1:2] == ["."] and words[0] in _GLOBAL | _LOCAL:
            scope = words[0]
            del words[:2], assignment[:2]
    elif words[0] in _GLOBAL | _LOCAL and assignment[0].kind == WORD:
        scope = words[0]
        del words[0], assignment[0]
    if scope in _GLOBAL:
        findings.note("write", f"SET {scope} changes the server")
    elif words[:1] == ["TRANSACTION"]:
        if scope:
            findings.note("session", f"SET {scope} TRANSACTION", "SET SESSION TRANSACTION")
        else:
            findings.note("transaction", "SET TRANSACTION belongs to transactions", NEXT_TRANSACTION)
    else:
        _examine_variable(words, assignment, findings)


def _examine_variable(words: list[str], assignment: list[Token], findings: Findings) -> None:
    first, second = (*words, "", "")[:2]
    if first in ("NAMES", "CHARACTER", "CHARSET") and second not in ("=", ":="):
        effect = "SET NAMES" if first == "NAMES" else "SET CHARACTER SET"
        findings.note("session", effect, effect)
    elif first == "ROLE" and second not in ("=", ":="):
        findings.note("session", "SET ROLE", "SET ROLE")
    elif first == "PASSWORD" or (first == "DEFAULT" and second == "ROLE"):
        findings.note("write", f"SET {first} changes accounts")
    elif first == "RESOURCE" and second == "GROUP":
        findings.note("session", "SET RESOURCE GROUP")
    elif first == "AUTOCOMMIT":
        findings.note("transaction", "autocommit belongs to transactions")
    elif not assignment or assignment[0].kind not in (WORD, QUOTED):
        findings.note("session", "SET of an unknown form", "SET")
    elif first.lower() not in HARMLESS:
        findings.note("session", "SET belongs to the session", "SET SESSION …", effect_name=first.lower())
