"""Split SQL text into tokens, in one linear pass per quoting mode.

The lexer is stricter than any server: whatever it does not recognise becomes an ``UNREADABLE`` token,
and a text with such a token is never proven to be a read.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple
from unicodedata import normalize

Dialect = Literal["mysql", "mariadb", "sqlite"]

WORD: Final = "word"
QUOTED: Final = "quoted"
STRING: Final = "string"
NUMBER: Final = "number"
PARAM: Final = "param"
OP: Final = "op"
HINT: Final = "hint"
EXECUTABLE: Final = "executable"
UNREADABLE: Final = "unreadable"

PLACEHOLDER: Final = "\x01"
"""What :func:`fill_placeholders` substitutes for a placeholder; no server accepts it as SQL."""


class Token(NamedTuple):
    """One token of a text.

    Attributes:
        kind: one of the constants above.
        text: its text; for a quoted name without the quotes, for an unreadable token the reason.
        gap: whether white space or a comment precedes it, which decides whether ``count (1)`` calls the
            built-in function or a stored one.
    """

    kind: str
    text: str
    gap: bool


def shown(token: Token) -> str:
    """Return `token` as messages show it: a name or an operator unchanged, a literal as a question mark."""
    return ascii(token.text) if token.kind in (WORD, QUOTED, OP) else "'?'"


class QuotingMode(NamedTuple):
    """How a server reads quotes. This depends on its ``sql_mode``, which a text does not show."""

    ansi_quotes: bool = False
    backslash_escapes: bool = True


_FORMAT = re.compile(r"%(%|s|\(\w+\)s)?")


def fill_placeholders(template: str) -> str | None:
    """Return the text that the driver sends, with :data:`PLACEHOLDER` in place of each parameter.

    Returns ``None`` if a percent sign is not part of ``%s``, ``%(name)s`` or ``%%``: what the driver makes
    of such a text depends on the parameters.
    """
    if PLACEHOLDER in template:
        return None
    if "%" not in template:
        return template
    if template.count("%") == template.count("%s"):
        return template.replace("%s", PLACEHOLDER)
    sound = True

    def replace(match: re.Match[str]) -> str:
        nonlocal sound
        if match[1] is None:
            sound = False
        return "%" if match[1] == "%" else PLACEHOLDER

    text = _FORMAT.sub(replace, template)
    return text if sound else None


def quoting_modes(text: str, dialect: Dialect | None) -> tuple[QuotingMode, ...]:
    """Return the quoting modes under which `text` must be read, without those that make no difference."""
    if dialect == "sqlite":
        return (QuotingMode(),)
    ansi = (False, True) if '"' in text else (False,)
    escapes = (True, False) if "\\" in text else (True,)
    return tuple(QuotingMode(a, e) for a in ansi for e in escapes)


_SPACE = r"[ \t\n\v\f\r]+"
# A letter, a digit, _, $ or anything beyond ASCII. Written as all but the other ASCII characters, because
# compiling a set that reaches to the last character takes a hundred times as long.
_NAME_CHARACTER = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
# A list of values becomes one token, because the proof does not depend on their number. The length is
# limited because the regular expression needs memory for each repetition until the list ends.
_MANY = "{1,500}"
_LIST = rf"[0-9]+(?:, ?[0-9]+){_MANY}(?!{_NAME_CHARACTER}|\.)"
_NUMBER = rf"(?P<number>{_LIST}|0x[0-9a-fA-F]+|0b[01]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_WORD = rf"(?P<word>{_NAME_CHARACTER}+)"
# A possessive quantifier stores no positions for backtracking. Without it, a literal with a million escapes
# takes a hundred megabytes.
_POSSESSIVE = "+" if sys.version_info >= (3, 11) else ""
_BACKTICK = rf"`[^`]*(?:``[^`]*)*{_POSSESSIVE}`"
_DOUBLE_NAME = rf'"[^"]*(?:""[^"]*)*{_POSSESSIVE}"'
_TAIL = r"|(?P<unreadable>.)"


def _string(quote: str, escapes: bool) -> str:
    # A doubled quote yields two adjacent strings, which makes no difference to the proof.
    if escapes:
        return rf"{quote}[^{quote}\\]*(?:\\.[^{quote}\\]*)*{_POSSESSIVE}{quote}"
    return f"{quote}[^{quote}]*{quote}"


@functools.cache  # compiled when first used: most programs need one of the four
def _mysql(mode: QuotingMode) -> re.Pattern[str]:
    strings = [_string("'", mode.backslash_escapes)]
    names = [_BACKTICK]
    if mode.ansi_quotes:
        names.append(_DOUBLE_NAME)
    else:
        strings.append(_string('"', mode.backslash_escapes))
    return re.compile(
        rf"(?P<gap>{_SPACE}|\#[^\n]*|--(?=[ \t\n\v\f\r]|\Z)[^\n]*|/\*(?![+!]|[mM]!).*?\*/)"
        rf"|(?P<hint>/\*\+.*?\*/)"
        rf"|(?P<executable>/\*[mM]?!\d*)"
        rf"|{_NUMBER}|{_WORD}"
        rf"|(?P<string>{'|'.join(strings)})"
        rf"|(?P<quoted>{'|'.join(names)})"
        rf"|(?P<param>{PLACEHOLDER}(?:, ?{PLACEHOLDER}){_MANY}|{PLACEHOLDER})"
        r"|(?P<op>/(?!\*)|@@|:=|->>|->|<=>|<<|>>|<=|>=|<>|!=|\|\||&&|[-+*%^&|~!=<>(),.;@{}])" + _TAIL,
        re.DOTALL,
    )


@functools.cache
def _sqlite() -> re.Pattern[str]:
    return re.compile(
        rf"(?P<gap>{_SPACE}|--[^\n]*|/\*.*?\*/)"
        rf"|(?P<param>\?(?:, ?\?){_MANY}(?![\w$])|\?\d*(?![\w$])|[:@$][A-Za-z0-9_]+)"
        rf"|{_NUMBER}|{_WORD}"
        rf"|(?P<string>'[^']*')"
        rf"|(?P<quoted>{_BACKTICK}|{_DOUBLE_NAME}|\[[^\]]*\])"
        r"|(?P<op>/(?!\*)|->>|->|<<|>>|<=|>=|<>|!=|==|\|\||[-+*%&|~=<>(),.;])" + _TAIL,
        re.DOTALL,
    )


_GLUED = frozenset((WORD, QUOTED, STRING, NUMBER, PARAM))
_NAMELIKE = frozenset((WORD, QUOTED, NUMBER))


def lex(text: str, dialect: Dialect | None, mode: QuotingMode) -> Iterator[Token]:
    """Yield the tokens of `text`, without white space, comments and harmless hints.

    Stops after the first ``UNREADABLE`` token. A placeholder is unreadable if its value could change the
    meaning of the text: inside a literal, a name or a comment, or so close to another token that the two
    could merge.
    """
    pattern = _sqlite() if dialect == "sqlite" else _mysql(mode)
    filled = dialect != "sqlite" and PLACEHOLDER in text
    gap = False
    before = ""
    new = tuple.__new__
    for match in pattern.finditer(text):
        kind = match.lastgroup
        if kind == "gap":
            if filled and PLACEHOLDER in match[0]:
                yield Token(UNREADABLE, "a placeholder inside a comment", gap)
                return
            gap = True
            continue
        if kind == HINT:
            complaint = _hint(match[0])
            if complaint:
                yield Token(UNREADABLE, complaint, gap)
                return
            gap = True
            continue
        assert kind is not None  # every alternative of the pattern is a named group
        part = match[0]
        if kind == WORD:
            if not part.isascii() and not _plain(part):
                kind, part = UNREADABLE, "a character of unknown meaning in a name"
            elif part[0] == "$":
                kind, part = UNREADABLE, "a name that begins with a dollar sign"
        elif kind == UNREADABLE:
            part = _complaint(part)
        elif filled and kind != PARAM and PLACEHOLDER in part:
            kind, part = UNREADABLE, f"a placeholder inside a {_INSIDE[kind]}"
        elif kind == QUOTED:
            part = part[1:-1]
        if not gap and before:
            if filled and _merges(kind, part, before):
                kind, part = UNREADABLE, "a placeholder that could merge with its neighbour"
            elif NUMBER in (before, kind) and before in _NAMELIKE and kind in _NAMELIKE:
                # Servers disagree on where to split `1e5lock`, `1.lock` and `t.5`.
                kind, part = UNREADABLE, "a number run into a name"
        # This runs for each token, and is three times as fast as Token(...).
        yield new(Token, (kind, part, gap))
        if kind == UNREADABLE:
            return
        before = part if kind == OP else kind
        gap = kind == EXECUTABLE


_INSIDE = {STRING: "literal", QUOTED: "quoted name", EXECUTABLE: "comment"}
_CLOSERS = {"'": "an unclosed literal", '"': "an unclosed quote", "`": "an unclosed name"}


def _complaint(part: str) -> str:
    return "an unclosed comment" if part == "/" else _CLOSERS.get(part, f"the character {part!a}")


def _hint(text: str) -> str:
    """Return what is wrong with an optimizer hint, or ``""``. Some servers take a hint for a comment."""
    if PLACEHOLDER in text:
        return "a placeholder inside an optimizer hint"
    if any(quote in text for quote in "'\"`"):
        return "an optimizer hint with quotes, which only some servers look into"
    return "an optimizer hint that sets a variable" if "SET_VAR" in text.upper() else ""


def _plain(word: str) -> bool:
    """Return whether every server reads this name, which has non-ASCII letters, as one and the same."""
    return (
        max(word) <= "\uffff"
        and normalize("NFKC", word) == word
        and all(letter.isalnum() or letter in "_$" for letter in word)
    )


def _merges(kind: str, part: str, before: str) -> bool:
    """Return whether a placeholder and its neighbour could become one token once the value is filled in."""
    if kind == PARAM:
        return before in _GLUED or before in (".", "@", "@@")
    return before == PARAM and (kind in _GLUED or part in (".", "@", "@@"))


_PLAIN_START = re.compile(rf"[ \t\n\v\f\r]*([A-Za-z_]+)(?!{_NAME_CHARACTER})")


def first_word(text: str | bytes) -> str:
    """Return the first word of a statement, in upper case.

    Comments before it are skipped, except executable ones. Returns ``""`` if the text begins with
    something other than a word: a parenthesis, an executable comment, a comment that is never closed.
    """
    start = text[:80]  # bytes can be megabytes: decode only what is needed
    if not isinstance(start, str):
        start = bytes(start).decode("latin1")
    match = _PLAIN_START.match(start)
    if match is not None and (match.end() < len(start) or len(start) == len(text)):
        return match[1].upper()
    # Few texts begin with anything else. They go to the lexer, so that all parts of the library agree
    # about comments.
    whole = text if isinstance(text, str) else bytes(text).decode("latin1")
    token = next(lex(whole, None, QuotingMode()), None)
    return token.text.upper() if token is not None and token.kind == WORD else ""
