"""How bookmarks travel in cookies and headers: names, signatures, attributes. Pure: no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from peewee_replicas import bookmarks
from peewee_replicas.errors import BookmarkError, ConfigurationError

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods of HTTP that change nothing, which ``readonly=True`` stands for."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNTIL = re.compile(r"until-([0-9]{1,15})")
_LONGEST_NAME = 32  # so that the longest bookmark there is fits into the 4096 bytes of a cookie
_LONGEST_AGE = 24 * 3600.0  # what a bookmark itself is good for
_CANDIDATES = 4  # cookies of one name that are looked at: browsers send one for each path
_SAME_SITE = ("Lax", "Strict", "None")

Secrets = str | bytes | Sequence[str | bytes]


class Found(NamedTuple):
    """What came with a request for one database.

    Attributes:
        texts: bookmarks whose signatures are right.
        refused: why the others were not taken, in words.
    """

    texts: list[str]
    refused: list[str]


class Terms:
    """The terms on which bookmarks are handed out and taken back.

    Parameters:
        secret: what signs, of 16 bytes or more; of several the first signs, and all are accepted.
        cookie: the cookie's name; None: no cookie.
        header: the name of the request's and the response's header; None: no header.
        max_age: seconds after which a bookmark is no longer accepted.
        secure: the cookie's ``Secure``; None: as the request's scheme.
        same_site: the cookie's ``SameSite``: ``"Lax"``, ``"Strict"`` or ``"None"``.
        domain: the cookie's ``Domain``; None: the host alone.
        path: the cookie's ``Path``.
        readonly: the methods whose requests run inside ``readonly()``; True: `SAFE_METHODS`.

    Raises:
        ConfigurationError: one of them cannot work.
    """

    def __init__(
        self,
        *,
        secret: Secrets,
        cookie: str | None,
        header: str | None,
        max_age: float,
        secure: bool | None,
        same_site: str,
        domain: str | None,
        path: str,
        readonly: bool | Iterable[str],
    ) -> None:
        self._secrets = _checked_secrets(secret)
        self._cookie = _checked_name("cookie", cookie)
        self._header = _checked_name("header", header)
        if header is not None and "_" in header:
            raise ConfigurationError(
                f"header={header!r}: servers and proxies drop headers with _ in their names; write -"
            )
        if cookie is None and header is None:
            raise ConfigurationError("cookie=None, header=None: bookmarks need one of them to travel in")
        if (
            isinstance(max_age, bool)
            or not isinstance(max_age, int | float)
            or not 1 <= max_age <= _LONGEST_AGE
        ):
            raise ConfigurationError(f"max_age={max_age!r}: 1 to {_LONGEST_AGE:.0f} seconds are wanted")
        self.max_age = max_age
        if secure not in (None, True, False):
            raise ConfigurationError(f"secure={secure!r}: True, False or None (as the request) is wanted")
        self._secure = secure
        if same_site not in _SAME_SITE:
            raise ConfigurationError(f"same_site={same_site!r}: one of {', '.join(_SAME_SITE)} is wanted")
        if same_site == "None" and secure is False:
            raise ConfigurationError(
                'same_site="None" needs secure=True: browsers refuse the cookie otherwise'
            )
        self._same_site = same_site
        self._where = f"; Path={_checked_attribute('path', path)}"
        if not path.startswith("/"):
            raise ConfigurationError(f"path={path!r}: browsers ignore one that does not begin with /")
        if domain is not None:
            self._where += f"; Domain={_checked_attribute('domain', domain)}"
        self.readonly = _checked_methods(readonly)

    def cookie_of(self, label: str) -> str | None:
        """The name of a database's cookie."""
        return self._cookie and (f"{self._cookie}_{label}" if label else self._cookie)

    def header_of(self, label: str) -> str | None:
        """The name of a database's header."""
        # Servers and proxies drop headers with underscores in their names, and say nothing.
        return self._header and (f"{self._header}-{label.replace('_', '-')}" if label else self._header)

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raises `ConfigurationError` where two databases would have one header, whose names ignore case."""
        headers: dict[str, str] = {}
        for label in labels if self._header else ():
            other = headers.setdefault(str(self.header_of(label)).lower(), label)
            if other != label:
                raise ConfigurationError(
                    f"databases: {other!r} and {label!r} would have one header, {self.header_of(label)}"
                )

    def vary(self, label: str) -> list[str]:
        """The headers of the request that a response with a bookmark depends on.

        A shared cache then hands it only to requests with the very same bookmark, none of which is newer.
        """
        header = self.header_of(label)
        return (["Cookie"] if self._cookie else []) + ([header] if header else [])

    def open(self, label: str, cookies: str, header: str) -> Found:
        """The bookmarks that came with a request for one database.

        Parameters:
            label: the database's.
            cookies: the ``Cookie`` header, or ``""``.
            header: the value of the database's own header, or ``""``.
        """
        found = Found([], [])
        name = self.cookie_of(label)
        candidates = cookie_values(cookies, name)[:_CANDIDATES] if name and cookies else []
        if header and self._header:
            candidates.append(header)
        for candidate in candidates:
            try:
                found.texts.append(bookmarks.unsign(candidate, *self._secrets, context=_context(label)))
            except BookmarkError as exc:
                found.refused.append(str(exc))
        return found

    def seal(self, label: str, text: str, https: bool) -> list[tuple[str, str]]:
        """The headers that send a bookmark out."""
        value = bookmarks.sign(text, self._secrets[0], context=_context(label))
        sent = []
        cookie, header = self.cookie_of(label), self.header_of(label)
        if cookie:
            secure = "; Secure" if (https if self._secure is None else self._secure) else ""
            sent.append(
                (
                    "Set-Cookie",
                    f"{cookie}={value}; Max-Age={int(self.max_age)}{self._where}{secure}; HttpOnly; "
                    f"SameSite={self._same_site}",
                )
            )
        if header:
            sent.append((header, value))
        return sent


def cookie_values(header: str, name: str) -> list[str]:
    """The values of the cookies of one name in a ``Cookie`` header, in their order."""
    values = []
    for pair in header.split(";"):
        found, equals, value = pair.partition("=")
        if equals and found.strip() == name:
            values.append(value.strip().strip('"'))
    return values


def until_text(moment: float) -> str:
    """Says, in a bookmark's place, until when reads stay on the primary; in seconds since the epoch."""
    return f"until-{moment * 1000:.0f}"


def until_of(text: str) -> float | None:
    """The moment that `until_text` wrote down; None where the text is something else."""
    found = _UNTIL.fullmatch(text)
    return int(found[1]) / 1000 if found else None


def with_vary(headers: list[tuple[str, str]], more: Iterable[str]) -> list[tuple[str, str]]:
    """A response's headers, with more names in ``Vary``."""
    names = [
        word.strip()
        for name, value in headers
        if name.lower() == "vary"
        for word in value.split(",")
        if word.strip()
    ]
    known = {word.lower() for word in names}
    new = [word for word in more if word.lower() not in known]
    if "*" in known or not new:
        return headers
    others = [pair for pair in headers if pair[0].lower() != "vary"]
    return [*others, ("Vary", ", ".join([*names, *new]))]


def labelled(databases: object) -> dict[str, object]:
    """The databases by their labels, of which one that stands alone has none.

    Raises:
        ConfigurationError: a label cannot be part of a cookie's name.
    """
    if not isinstance(databases, Mapping):
        return {"": databases}
    if not databases:
        raise ConfigurationError("databases={}: there is none whose bookmarks could be carried")
    for label in databases:
        if not isinstance(label, str) or not _TOKEN.fullmatch(label) or len(label) > _LONGEST_NAME:
            raise ConfigurationError(
                f"databases: {label!r}: a word of letters, digits, - and _ is wanted, for its cookie's name"
            )
    return dict(databases)


def _context(label: str) -> str:
    # What signs is the program's, so that a text signed for another purpose or database is none of ours.
    return f"peewee_replicas.ext {label}"


def _checked_secrets(given: Secrets) -> tuple[str | bytes, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        given = (given,)
    secrets = tuple(given)
    if not secrets:
        raise ConfigurationError("secret: one is wanted, or several of which the first signs")
    for secret in secrets:
        if not isinstance(secret, str | bytes):  # of a number, as many zeros would be made
            raise ConfigurationError(f"secret: text or bytes are wanted, not a {type(secret).__name__}")
        try:
            bookmarks.sign("", secret)
        except ValueError as exc:
            raise ConfigurationError(f"secret: {exc}") from exc
    return secrets


def _checked_name(argument: str, name: str | None) -> str | None:
    fits = isinstance(name, str) and _TOKEN.fullmatch(name) and len(name) <= _LONGEST_NAME
    if name is not None and not fits:
        raise ConfigurationError(
            f"{argument}={name!r}: None or a name of up to {_LONGEST_NAME} letters, digits, - and _ is wanted"
        )
    return name


def _checked_attribute(argument: str, value: str) -> str:
    fits = isinstance(value, str) and value.isascii() and value.isprintable()
    if not fits or not value or set(value) & set("; ,"):
        raise ConfigurationError(f"{argument}={value!r}: not allowed in a cookie")
    return value


def _checked_methods(given: bool | Iterable[str]) -> frozenset[str]:
    if isinstance(given, bool):
        return SAFE_METHODS if given else frozenset()
    methods = frozenset(given if isinstance(given, Iterable) else (None,))
    if isinstance(given, str) or not all(isinstance(method, str) for method in methods):
        raise ConfigurationError(f'readonly={given!r}: True, False or methods such as ("GET",) are wanted')
    return frozenset(method.upper() for method in methods)
