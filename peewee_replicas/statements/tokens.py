"""SQL text into tokens, in one linear pass per quoting mode.

The lexer is stricter than any server: whatever it does not know becomes a ``BAD`` token, and a text
with such a token is never proven to be a read.
"""

from __future__ import annotations

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
EXEC: Final = "exec"
BAD: Final = "bad"

PLACEHOLDER: Final = "\x01"
"""What stands for a placeholder after :func:`fill`; no server takes it as SQL."""


class Token(NamedTuple):
    """One token: its kind, its text (a quoted name without its quotes), and whether white space or
    a comment stands before it."""

    kind: str
    text: str
    gap: bool


class Mode(NamedTuple):
    """How quotes are read: what the server's ``sql_mode`` decides and a text does not show."""

    ansi_quotes: bool = False
    backslash_escapes: bool = True


_FORMAT = re.compile(r"%(%|s|\(\w+\)s)?")


def fill(template: str) -> str | None:
    """The text that a driver of format style ``%s`` sends, each placeholder being one control
    character. ``None``: a ``%`` that is neither ``%s``, ``%(name)s`` nor ``%%``."""
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


def modes(text: str, dialect: Dialect | None) -> tuple[Mode, ...]:
    """The quoting modes under which `text` can read differently."""
    if dialect == "sqlite":
        return (Mode(),)
    ansi = (False, True) if '"' in text else (False,)
    escapes = (True, False) if "\\" in text else (True,)
    return tuple(Mode(a, e) for a in ansi for e in escapes)


_SPACE = r"[ \t\n\v\f\r]+"
# A list of values comes out as one token: nothing is decided by how many there are. Bounded, because what a
# repeated group has passed takes memory until it ends.
_MANY = "{1,500}"
_LIST = rf"[0-9]+(?:, ?[0-9]+){_MANY}(?![A-Za-z0-9_$.\x80-\U0010ffff])"
_NUMBER = rf"(?P<number>{_LIST}|0x[0-9a-fA-F]+|0b[01]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_WORD = r"(?P<word>[A-Za-z0-9_$\x80-\U0010ffff]+)"
# Without it a literal of a million escapes takes a hundred megabytes to go back into.
_ONCE = "+" if sys.version_info >= (3, 11) else ""
_BACKTICK = rf"`[^`]*(?:``[^`]*)*{_ONCE}`"
_DOUBLE_NAME = rf'"[^"]*(?:""[^"]*)*{_ONCE}"'
_TAIL = r"|(?P<bad>.)"


def _string(quote: str, escapes: bool) -> str:
    # A doubled quote is left to be two strings side by side: the same thing for any proof.
    if escapes:
        return rf"{quote}[^{quote}\\]*(?:\\.[^{quote}\\]*)*{_ONCE}{quote}"
    return f"{quote}[^{quote}]*{quote}"


def _mysql(mode: Mode) -> re.Pattern[str]:
    strings = [_string("'", mode.backslash_escapes)]
    names = [_BACKTICK]
    if mode.ansi_quotes:
        names.append(_DOUBLE_NAME)
    else:
        strings.append(_string('"', mode.backslash_escapes))
    return re.compile(
        rf"(?P<gap>{_SPACE}|\#[^\n]*|--(?=[ \t\n\v\f\r]|\Z)[^\n]*|/\*(?![+!]|[mM]!).*?\*/)"
        rf"|(?P<hint>/\*\+.*?\*/)"
        rf"|(?P<exec>/\*[mM]?!\d*)"
        rf"|{_NUMBER}|{_WORD}"
        rf"|(?P<string>{'|'.join(strings)})"
        rf"|(?P<quoted>{'|'.join(names)})"
        rf"|(?P<param>{PLACEHOLDER}(?:, ?{PLACEHOLDER}){_MANY}|{PLACEHOLDER})"
        r"|(?P<op>/(?!\*)|@@|:=|->>|->|<=>|<<|>>|<=|>=|<>|!=|\|\||&&|[-+*%^&|~!=<>(),.;@{}])" + _TAIL,
        re.DOTALL,
    )


_SQLITE = re.compile(
    rf"(?P<gap>{_SPACE}|--[^\n]*|/\*.*?\*/)"
    rf"|(?P<param>\?(?:, ?\?){_MANY}(?![\w$])|\?\d*(?![\w$])|[:@$][A-Za-z0-9_]+)"
    rf"|{_NUMBER}|{_WORD}"
    rf"|(?P<string>'[^']*')"
    rf"|(?P<quoted>{_BACKTICK}|{_DOUBLE_NAME}|\[[^\]]*\])"
    r"|(?P<op>/(?!\*)|->>|->|<<|>>|<=|>=|<>|!=|==|\|\||[-+*%&|~=<>(),.;])" + _TAIL,
    re.DOTALL,
)
_PATTERNS = {Mode(a, e): _mysql(Mode(a, e)) for a in (False, True) for e in (False, True)}

_GLUED = frozenset((WORD, QUOTED, STRING, NUMBER, PARAM))
_NAMELIKE = frozenset((WORD, QUOTED, NUMBER))


def lex(text: str, dialect: Dialect | None, mode: Mode) -> Iterator[Token]:
    """The tokens of `text`, white space, comments and harmless hints left out.

    Ends after the first ``BAD`` one.
    A placeholder inside a literal, a name or a comment, or so close to another token that a value
    could merge with it, comes out as ``BAD``.
    """
    pattern = _SQLITE if dialect == "sqlite" else _PATTERNS[mode]
    filled = dialect != "sqlite" and PLACEHOLDER in text
    gap = False
    before = ""
    new = tuple.__new__
    for match in pattern.finditer(text):
        kind = match.lastgroup
        if kind == "gap":
            if filled and PLACEHOLDER in match[0]:
                yield Token(BAD, "a placeholder inside a comment", gap)
                return
            gap = True
            continue
        if kind == HINT:
            complaint = _hint(match[0])
            if complaint:
                yield Token(BAD, complaint, gap)
                return
            gap = True
            continue
        assert kind is not None  # every alternative of the pattern is a named group
        part = match[0]
        if kind == WORD:
            if not part.isascii() and not _plain(part):
                kind, part = BAD, "a character of unknown meaning in a name"
            elif part[0] == "$":
                kind, part = BAD, "a name that begins with a dollar sign"
        elif kind == BAD:
            part = _complaint(part)
        elif filled and kind != PARAM and PLACEHOLDER in part:
            kind, part = BAD, f"a placeholder inside a {_INSIDE[kind]}"
        elif kind == QUOTED:
            part = part[1:-1]
        if not gap and before:
            if filled and _merges(kind, part, before):
                kind, part = BAD, "a placeholder that could merge with its neighbour"
            elif NUMBER in (before, kind) and before in _NAMELIKE and kind in _NAMELIKE:
                # `1e5lock`, `1.lock` and `t.5` are cut differently by different servers.
                kind, part = BAD, "a number run into a name"
        # A third of the time that the constructor of a named tuple takes.
        yield new(Token, (kind, part, gap))
        if kind == BAD:
            return
        before = part if kind == OP else kind
        gap = kind == EXEC


_INSIDE = {STRING: "literal", QUOTED: "quoted name", EXEC: "comment"}
_CLOSERS = {"'": "an unclosed literal", '"': "an unclosed quote", "`": "an unclosed name"}


def _complaint(part: str) -> str:
    return "an unclosed comment" if part == "/" else _CLOSERS.get(part, f"the character {part!a}")


def _hint(text: str) -> str:
    """What is wrong with an optimizer hint; where a server knows none, it is a comment."""
    if PLACEHOLDER in text:
        return "a placeholder inside an optimizer hint"
    if any(quote in text for quote in "'\"`"):
        return "an optimizer hint with quotes, which only some servers look into"
    return "an optimizer hint that sets a variable" if "SET_VAR" in text.upper() else ""


def _plain(word: str) -> bool:
    """Whether a name with letters beyond ASCII is one that no server folds into another."""
    return (
        max(word) <= "\uffff"
        and normalize("NFKC", word) == word
        and all(letter.isalnum() or letter in "_$" for letter in word)
    )


def _merges(kind: str, part: str, before: str) -> bool:
    if kind == PARAM:
        return before in _GLUED or before in (".", "@", "@@")
    return before == PARAM and (kind in _GLUED or part in (".", "@", "@@"))
