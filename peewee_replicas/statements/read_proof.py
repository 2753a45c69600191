"""The scan that proves a query to be a read, or says what stands in the way.

One pass over the tokens with a constant amount of state per open parenthesis, no recursion. Every
finding makes the verdict less permissive; nothing makes it more so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from . import functions
from .functions import Rules
from .kinds import NAMED_LOCK, USER_VARIABLE, Findings, Kind
from .tokens import NUMBER, OP, PARAM, QUOTED, STRING, UNREADABLE, WORD, Token

QUERY_VERBS: Final = frozenset(("SELECT", "WITH", "VALUES", "TABLE"))
_SERVER_SCHEMAS = frozenset(("INFORMATION_SCHEMA", "PERFORMANCE_SCHEMA", "MYSQL", "SYS"))
_SESSION_VARIABLE_NAMES = """
LAST_INSERT_ID IDENTITY INSERT_ID WARNING_COUNT ERROR_COUNT LAST_GTID GTID_SEQ_NO IN_TRANSACTION
PSEUDO_THREAD_ID PROXY_USER EXTERNAL_USER RAND_SEED1 RAND_SEED2
"""
_SESSION_VARIABLES = frozenset(_SESSION_VARIABLE_NAMES.split())
_WHO = frozenset(("CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "SYSTEM_USER"))
_WRITERS = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE"))
_WATCHED = (
    frozenset(("FOR", "INTO", "LOCK", "PROCEDURE", "SQL_CALC_FOUND_ROWS", "ANY", "SOME"))
    | QUERY_VERBS
    | _WRITERS
    | _WHO
    | {"ROWCOUNT"}
)
_AFTER_DOT: dict[str, tuple[Kind, str]] = {
    "NEXTVAL": ("write", "a sequence is advanced"),
    "CURRVAL": ("session", "the last value of a sequence belongs to the session"),
}
_OPERANDS = frozenset((NUMBER, STRING, PARAM))
_SUBSTRINGS = frozenset(("SUBSTRING", "SUBSTR", "MID"))

_NOTHING = Token("", "", False)


class Scan:
    """One statement's pass. Feed tokens with :meth:`run`, read :attr:`findings`."""

    __slots__ = (
        "_before",
        "_dotted",
        "_expect",
        "_inside",
        "_last",
        "_open",
        "_schema_name",
        "findings",
        "rules",
    )

    def __init__(self, rules: Rules, findings: Findings) -> None:
        self.rules = rules
        self.findings = findings
        self._last = _NOTHING
        self._before = _NOTHING  # the token before the last one
        self._dotted = False  # the last token is a name behind a dot
        self._expect = ""  # a word whose meaning the next token decides
        # Per open parenthesis what it is the inside of: WITH's list of names, a call of SUBSTRING, or "".
        self._inside: list[str] = [""]
        self._schema_name = ""
        self._open = False  # past the leading parentheses

    def run(self, tokens: Iterable[Token], query: bool = True) -> None:
        """Scan `tokens` to their end; `query` demands that a query is what they begin."""
        self._open = not query
        last = self._last
        for token in tokens:
            kind, text, gap = token
            if not self._open and text != "(":
                self._begin(token)
            dotted = last.text == "." and last.kind == OP
            if self._expect:
                self._decide(token)
            if kind == WORD:
                upper = text.upper()
                if dotted:
                    self._behind_dot(upper)
                if upper in _WATCHED and not (dotted and not gap):
                    self._watched(upper)
                elif self.rules.sqlite:
                    self._sqlite_name(text.lower())
            elif kind == OP:
                if text not in _HARMLESS:
                    self._operator(token)
            elif kind == PARAM:
                self._param()
            elif kind == QUOTED:
                if dotted:
                    self._behind_dot(text.upper())
                elif self.rules.sqlite:
                    self._sqlite_name(text.lower())
            elif kind == UNREADABLE:
                self.findings.note("unknown", text)
            self._before = last
            self._last = last = token
            self._dotted = dotted
        if self._expect not in ("", "@@.") or not self._open or len(self._inside) != 1:
            self.findings.note("unknown", "the statement breaks off")

    def _begin(self, token: Token) -> None:
        self._open = True
        if token.kind != WORD or token.text.upper() not in QUERY_VERBS:
            self.findings.note("unknown", f"no known query begins with {self.rules.shown(token)}")

    def _behind_dot(self, upper: str) -> None:
        if upper in _AFTER_DOT and self.rules.dialect in (None, "mariadb"):
            self.findings.note(*_AFTER_DOT[upper])

    def _watched(self, upper: str) -> None:
        note, last = self.findings.note, self._last
        if upper in QUERY_VERBS:
            at_start = last is _NOTHING or (last.kind == OP and last.text == "(")
            self._inside[-1] = "WITH" if upper == "WITH" and at_start else ""
        elif upper in _WRITERS:
            if upper in ("INSERT", "REPLACE"):
                self._expect = upper
            elif not (upper == "UPDATE" and last.kind == WORD and last.text.upper() == "FOR"):
                note("write", f"{upper} writes")
        elif upper in _WHO:
            if not self.rules.sqlite:
                note("query", f"{upper} can differ between nodes")
        elif upper == "SQL_CALC_FOUND_ROWS":
            note("session", "SQL_CALC_FOUND_ROWS belongs to the session")
        elif upper == "LOCK":
            if not self.rules.sqlite:
                note("locking", "LOCK IN SHARE MODE takes row locks")
        elif upper == "ROWCOUNT":
            if last.text == "%" and self._before.text.upper() == "SQL":
                note("session", "SQL%ROWCOUNT belongs to the session")
        elif upper == "PROCEDURE":
            note("unknown", "PROCEDURE is not known to be harmless")
        else:  # FOR, INTO, ANY, SOME
            self._expect = upper
            if upper == "FOR" and last.kind == WORD and last.text.upper() == "VALUE":
                self._sequence(self._before.text.upper())

    def _sequence(self, which: str) -> None:
        if which == "PREVIOUS":
            self.findings.note("session", "the last value of a sequence belongs to the session")
        elif which == "NEXT":
            self.findings.note("write", "NEXT VALUE FOR advances a sequence")

    def _decide(self, token: Token) -> None:
        """The token behind a word that means different things."""
        expect, self._expect = self._expect, ""
        upper = token.text.upper() if token.kind in (WORD, QUOTED) else ""
        note = self.findings.note
        if expect == "FOR":
            self._decide_for(token, upper if token.kind == WORD else "")
        elif expect == "INTO":
            if upper in ("OUTFILE", "DUMPFILE"):
                note("write", f"INTO {upper} writes a file")
            else:
                effect = USER_VARIABLE if token.text == "@" else ""
                note("session", "INTO keeps its result in the session", effect)
        elif expect in ("INSERT", "REPLACE"):
            if token.text != "(":
                note("write", f"{expect} writes")
        elif expect in ("ANY", "SOME"):
            if token.text == "(" and token.kind == OP:
                self._expect = "ANY("
        elif expect == "ANY(":
            if token.kind != WORD or upper not in QUERY_VERBS:
                note("query", "ANY or SOME of something other than a subquery")
        elif expect == "@@":
            self._system_variable(token, upper)
        elif expect == "@@." and token.text == ".":
            self._expect = "@@"

    def _decide_for(self, token: Token, upper: str) -> None:
        note = self.findings.note
        if upper in ("UPDATE", "SHARE"):
            note("locking", f"FOR {upper} takes row locks")
        elif upper in ("JOIN", "ORDER", "GROUP"):
            if self._before.text.upper() not in ("INDEX", "KEY"):
                note("unknown", f"FOR {upper} is not known")
        elif upper == "SYSTEM_TIME":
            if self.rules.dialect != "mariadb":
                note("unknown", "FOR SYSTEM_TIME is known to MariaDB alone")
        elif self._inside[-1] == "SUBSTRING" and token.kind != UNREADABLE:
            pass  # SUBSTRING(text FROM start FOR length)
        elif token.kind not in (NUMBER, PARAM, STRING) and token.text not in ("(", "-"):
            note("unknown", f"FOR before {self.rules.shown(token)} is not known")

    def _system_variable(self, token: Token, upper: str) -> None:
        if not upper:
            self.findings.note("unknown", "@@ without the name of a variable")
        elif upper in _SESSION_VARIABLES:
            self.findings.note("session", f"@@{upper.lower()} belongs to the session")
        else:
            name = token.text if self.rules.shows_names else "…"
            self.findings.note("query", f"@@{name} can differ between nodes")
        # Whatever name a dot leads to is looked at as well: @@session.last_insert_id.
        self._expect = "@@."

    def _operator(self, token: Token) -> None:
        text = token.text
        note = self.findings.note
        if text == "(":
            last = self._last
            if last.kind == WORD or last.kind == QUOTED:
                self._call(last, token.gap)
            elif self._inside[-1] == "WITH":
                self._inside[-1] = ""
            self._inside.append("SUBSTRING" if last.text.upper() in _SUBSTRINGS else "")
        elif text == ")":
            if len(self._inside) > 1:
                self._inside.pop()
            else:
                note("unknown", "a parenthesis is closed that was never opened")
        elif text == ".":
            self._schema()
        elif text == "@":
            note("session", "user variables belong to the session")
        elif text == "@@":
            self._expect = "@@"
        elif text == ":=":
            note("session", ":= assigns a user variable", USER_VARIABLE)
        elif text in "{}":
            note("query", "an ODBC escape")

    def _schema(self) -> None:
        last = self._last
        if last.kind not in (WORD, QUOTED):
            return
        self._schema_name = last.text
        upper = last.text.upper()
        if self.rules.sqlite:
            if upper == "TEMP":
                self.findings.note("session", "temporary tables belong to the connection")
        elif upper in _SERVER_SCHEMAS:
            self.findings.note("query", f"{upper.lower()} is the server's own schema")

    def _sqlite_name(self, lower: str) -> None:
        if lower in ("sqlite_temp_master", "sqlite_temp_schema"):
            self.findings.note("session", "temporary tables belong to the connection")
        elif lower.startswith("pragma_"):
            self.findings.note("query", f"{lower} is about the connection")

    def _param(self) -> None:
        # A list parameter becomes (1,2): behind a name that would be a call.
        last = self._last
        named = last.kind == QUOTED or (last.kind == WORD and not self._no_function(last.text.upper()))
        if named and not self.rules.sqlite:
            self.findings.note("unknown", f"a placeholder right behind the name {self.rules.shown(last)}")

    def _no_function(self, upper: str) -> bool:
        """Whether the last word cannot be the name of a function that is called."""
        if self._dotted:
            return False
        before = self._before
        if upper in self.rules.words or before.kind in _OPERANDS:
            return True
        return (before.kind == OP and before.text == ")") or (
            before.kind == WORD and before.text.upper() == "AS"
        )

    def _call(self, name: Token, gap: bool) -> None:
        """Judge `name` before a parenthesis."""
        upper = name.text.upper()
        if self._dangerous(upper):
            return
        unquoted = name.kind == WORD
        if unquoted and upper in self.rules.words and not self._dotted:
            return
        if (unquoted and not self._dotted and upper in self.rules.pure) and (not gap or self.rules.sqlite):
            return
        if upper == "JSON_TABLE" and unquoted and self._before.text.upper() in ("FROM", "JOIN"):
            return
        if self._inside[-1] == "WITH" and not self._dotted:
            return  # the columns of a WITH name
        if self._no_function(upper if unquoted else ""):
            return  # behind an operand or AS: an alias with its columns, a type, a clause
        if upper in ("ANY", "SOME") and unquoted and not self._dotted:
            return  # decided by what the parenthesis holds
        schema = f"{self._schema_name}." if self._dotted else ""
        if f"{schema}{name.text}".lower() in self.rules.vouched:
            return
        if not name.text.isascii():
            self.findings.note("unknown", f"the function name {self.rules.shown(name)} may be folded")
            return
        why = " (called with a space, by a quoted or a qualified name)" * (upper in self.rules.pure)
        shown = name.text if self.rules.shows_names else "…"
        self.findings.note("query", f"{shown}() is not known to be pure{why}")

    def _dangerous(self, upper: str) -> bool:
        note = self.findings.note
        if self.rules.sqlite:
            if upper in functions.SQLITE_SESSION:
                note("session", f"{upper.lower()}() belongs to the connection")
            elif upper in functions.SQLITE_UNKNOWN:
                note("unknown", f"{upper.lower()}() acts outside the database")
            else:
                return False
        elif upper in functions.LOCKING:
            taken = upper == "GET_LOCK" or upper.startswith(("SERVICE_GET", "VERSION_TOKENS_LOCK"))
            note("locking", f"{upper}() is about locks of the session", NAMED_LOCK * taken)
        elif upper in functions.SESSION:
            note("session", f"{upper}() belongs to the session")
        elif upper in functions.WRITING:
            note("write", f"{upper}() changes a sequence")
        elif upper.startswith(functions.WRITING_PREFIXES):
            name = upper if self.rules.shows_names else "…"
            note("write", f"{name}() changes the server")
        else:
            return False
        return True


_OPERATORS = "-> ->> <=> << >> <= >= <> != == || && - + * % ^ & | ~ ! = < > , /"
_HARMLESS = frozenset(_OPERATORS.split())
