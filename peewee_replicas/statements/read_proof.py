"""Prove that a query only reads, or report what prevents the proof.

A query counts as a read until something in it is found that is not known to be harmless. It takes one pass
over the tokens, without recursion and with little state per open parenthesis, so no text is too long or
too deeply nested.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from . import functions
from .functions import Rules
from .kinds import NAMED_LOCK, USER_VARIABLE, Findings, Kind
from .tokens import NUMBER, OP, PARAM, QUOTED, STRING, UNREADABLE, WORD, Token, shown

QUERY_VERBS: Final = frozenset(("SELECT", "WITH", "VALUES", "TABLE"))
"""The words that a query begins with."""

_SERVER_SCHEMAS = frozenset(("INFORMATION_SCHEMA", "PERFORMANCE_SCHEMA", "MYSQL", "SYS"))
_SESSION_VARIABLE_NAMES = """
LAST_INSERT_ID IDENTITY INSERT_ID WARNING_COUNT ERROR_COUNT LAST_GTID GTID_SEQ_NO IN_TRANSACTION
PSEUDO_THREAD_ID PROXY_USER EXTERNAL_USER RAND_SEED1 RAND_SEED2
"""
# The values of these belong to one session: another connection returns something else.
_SESSION_VARIABLES = frozenset(_SESSION_VARIABLE_NAMES.split())
# These can be called without parentheses, so the scan looks for them as bare words.
_WHO = frozenset(("CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "SYSTEM_USER"))
_WRITERS = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE"))
# Words that can turn a query into something other than a read, wherever they appear.
_WATCHED = (
    frozenset(("FOR", "INTO", "LOCK", "PROCEDURE", "SQL_CALC_FOUND_ROWS", "ANY", "SOME"))
    | QUERY_VERBS
    | _WRITERS
    | _WHO
    | {"ROWCOUNT"}
)
# MariaDB's sequences: `s.nextval` needs no parentheses.
_AFTER_DOT: dict[str, tuple[Kind, str]] = {
    "NEXTVAL": ("write", "a sequence is advanced"),
    "CURRVAL": ("session", "the last value of a sequence belongs to the session"),
}
_OPERANDS = frozenset((NUMBER, STRING, PARAM))
_SUBSTRINGS = frozenset(("SUBSTRING", "SUBSTR", "MID"))

_NOTHING = Token("", "", False)


class Scan:
    """One pass over the tokens of a statement. :meth:`run` adds what it finds to :attr:`findings`."""

    __slots__ = (
        "_begun",
        "_inside",
        "_last",
        "_last_but_one",
        "_last_is_dotted",
        "_schema_name",
        "_undecided",
        "findings",
        "rules",
    )

    def __init__(self, rules: Rules, findings: Findings) -> None:
        self.rules = rules
        self.findings = findings
        self._last = _NOTHING
        self._last_but_one = _NOTHING
        self._last_is_dotted = False  # the last token is a name after a dot
        self._undecided = ""  # the last word, if the next token decides its meaning
        # For each open parenthesis: "WITH" in a WITH clause, "SUBSTRING" in a call of SUBSTRING, else "".
        self._inside: list[str] = [""]
        self._schema_name = ""
        self._begun = False  # the first token after the leading parentheses was seen

    def run(self, tokens: Iterable[Token], query: bool = True) -> None:
        """Examine all of `tokens`.

        Parameters:
            tokens: the tokens of one statement.
            query: whether they must begin a query. If not, they are a part of a statement.
        """
        self._begun = not query
        last = self._last
        for token in tokens:
            kind, text, gap = token
            if not self._begun and text != "(":
                self._begin(token)
            dotted = last.text == "." and last.kind == OP
            if self._undecided:
                self._decide(token)
            if kind == WORD:
                upper = text.upper()
                if dotted:
                    self._name_after_dot(upper)
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
                    self._name_after_dot(text.upper())
                elif self.rules.sqlite:
                    self._sqlite_name(text.lower())
            elif kind == UNREADABLE:
                self.findings.note("unknown", text)
            self._last_but_one = last
            self._last = last = token
            self._last_is_dotted = dotted
        if self._undecided not in ("", "@@.") or not self._begun or len(self._inside) != 1:
            self.findings.note("unknown", "the statement is incomplete")

    def _begin(self, token: Token) -> None:
        self._begun = True
        if token.kind != WORD or token.text.upper() not in QUERY_VERBS:
            self.findings.note("unknown", "no known query begins with …", name=shown(token))

    def _name_after_dot(self, upper: str) -> None:
        if upper in _AFTER_DOT and self.rules.dialect in (None, "mariadb"):
            self.findings.note(*_AFTER_DOT[upper])

    def _watched(self, upper: str) -> None:
        note, last = self.findings.note, self._last
        if upper in QUERY_VERBS:
            at_start = last is _NOTHING or (last.kind == OP and last.text == "(")
            self._inside[-1] = "WITH" if upper == "WITH" and at_start else ""
        elif upper in _WRITERS:
            if upper in ("INSERT", "REPLACE"):
                self._undecided = upper
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
            if last.text == "%" and self._last_but_one.text.upper() == "SQL":
                note("session", "SQL%ROWCOUNT belongs to the session")
        elif upper == "PROCEDURE":
            note("unknown", "PROCEDURE is not known to be harmless")
        else:  # FOR, INTO, ANY, SOME
            self._undecided = upper
            if upper == "FOR" and last.kind == WORD and last.text.upper() == "VALUE":
                self._sequence(self._last_but_one.text.upper())

    def _sequence(self, which: str) -> None:
        if which == "PREVIOUS":
            self.findings.note("session", "the last value of a sequence belongs to the session")
        elif which == "NEXT":
            self.findings.note("write", "NEXT VALUE FOR advances a sequence")

    def _decide(self, token: Token) -> None:
        """Note what the last word means, now that the token after it is known."""
        word, self._undecided = self._undecided, ""
        upper = token.text.upper() if token.kind in (WORD, QUOTED) else ""
        note = self.findings.note
        if word == "FOR":
            self._decide_for(token, upper if token.kind == WORD else "")
        elif word == "INTO":
            if upper in ("OUTFILE", "DUMPFILE"):
                note("write", f"INTO {upper} writes a file")
            else:
                effect = USER_VARIABLE if token.text == "@" else ""
                note("session", "INTO keeps its result in the session", effect)
        elif word in ("INSERT", "REPLACE"):
            if token.text != "(":
                note("write", f"{word} writes")
        elif word in ("ANY", "SOME"):
            if token.text == "(" and token.kind == OP:
                self._undecided = "ANY("
        elif word == "ANY(":
            if token.kind != WORD or upper not in QUERY_VERBS:
                note("query", "ANY or SOME of something other than a subquery")
        elif word == "@@":
            self._system_variable(token, upper)
        elif word == "@@." and token.text == ".":
            self._undecided = "@@"

    def _decide_for(self, token: Token, upper: str) -> None:
        note = self.findings.note
        if upper in ("UPDATE", "SHARE"):
            note("locking", f"FOR {upper} takes row locks")
        elif upper in ("JOIN", "ORDER", "GROUP"):
            if self._last_but_one.text.upper() not in ("INDEX", "KEY"):
                note("unknown", f"FOR {upper} is not known")
        elif upper == "SYSTEM_TIME":
            if self.rules.dialect != "mariadb":
                note("unknown", "FOR SYSTEM_TIME is known to MariaDB alone")
        elif self._inside[-1] == "SUBSTRING" and token.kind != UNREADABLE:
            pass  # SUBSTRING(text FROM start FOR length)
        elif token.kind not in (NUMBER, PARAM, STRING) and token.text not in ("(", "-"):
            note("unknown", "FOR before … is not known", name=shown(token))

    def _system_variable(self, token: Token, upper: str) -> None:
        if not upper:
            self.findings.note("unknown", "@@ without the name of a variable")
        elif upper in _SESSION_VARIABLES:
            self.findings.note("session", f"@@{upper.lower()} belongs to the session")
        else:
            self.findings.note("query", "@@… can differ between nodes", name=token.text)
        # In @@session.last_insert_id the name after the dot must be examined too.
        self._undecided = "@@."

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
            self._undecided = "@@"
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
        # The driver sends a list as (1,2), which would be a call if it followed a name.
        last = self._last
        named = last.kind == QUOTED or (last.kind == WORD and not self._calls_nothing(last.text.upper()))
        if named and not self.rules.sqlite:
            self.findings.note("unknown", "a placeholder right after the name …", name=shown(last))

    def _calls_nothing(self, upper: str) -> bool:
        """Return whether the last word calls no function even if a parenthesis follows it."""
        if self._last_is_dotted:
            return False
        before = self._last_but_one
        if upper in self.rules.words or before.kind in _OPERANDS:
            return True
        return (before.kind == OP and before.text == ")") or (
            before.kind == WORD and before.text.upper() == "AS"
        )

    def _call(self, name: Token, gap: bool) -> None:
        """Examine a name before a parenthesis, which may call a function.

        Parameters:
            name: a word or a quoted name.
            gap: whether white space or a comment separates the name from the parenthesis.
        """
        upper = name.text.upper()
        if self._dangerous(upper):
            return
        unquoted = name.kind == WORD
        if unquoted and upper in self.rules.words and not self._last_is_dotted:
            return
        # With a gap, in quotes or after a schema, MySQL and MariaDB call a stored function of that name.
        if (unquoted and not self._last_is_dotted and upper in self.rules.pure) and (
            not gap or self.rules.sqlite
        ):
            return
        if upper == "JSON_TABLE" and unquoted and self._last_but_one.text.upper() in ("FROM", "JOIN"):
            return
        if self._inside[-1] == "WITH" and not self._last_is_dotted:
            return  # WITH name (columns)
        if self._calls_nothing(upper if unquoted else ""):
            return  # (SELECT 1) name (columns), CAST(a AS CHAR(3)), a reserved word
        if upper in ("ANY", "SOME") and unquoted and not self._last_is_dotted:
            return  # ANY (SELECT …): the token after the parenthesis decides
        schema = f"{self._schema_name}." if self._last_is_dotted else ""
        if f"{schema}{name.text}".lower() in self.rules.vouched:
            return
        if not name.text.isascii():
            # Servers can treat accented letters as plain ones, and so match the name to a built-in function.
            self.findings.note("unknown", "servers may read the function name … as another", name=shown(name))
            return
        why = " (called with a space, by a quoted or a qualified name)" * (upper in self.rules.pure)
        self.findings.note("query", f"…() is not known to be pure{why}", name=name.text)

    def _dangerous(self, upper: str) -> bool:
        """Note a function that is known to do more than read, in any spelling; return whether it is one."""
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
            note("write", "…() changes the server", name=upper)
        else:
            return False
        return True


_OPERATORS = "-> ->> <=> << >> <= >= <> != == || && - + * % ^ & | ~ ! = < > , /"
_HARMLESS = frozenset(_OPERATORS.split())
