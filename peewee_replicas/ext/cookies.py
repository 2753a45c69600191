"""Puts bookmarks into cookies and headers: names, signatures, attributes. No I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from peewee_replicas import bookmarks
from peewee_replicas.errors import BookmarkError, ConfigurationError
from peewee_replicas.statements.redaction import shown

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""The HTTP methods that change nothing; ``readonly=True`` means these."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNTIL = re.compile(r"until-([0-9]{1,15})")
_LONGEST_NAME = 32  # the longest bookmark then fits into a cookie's 4096 bytes
_LONGEST_AGE = 24 * 3600.0  # the lifetime of a bookmark
_CANDIDATES = 4  # cookies of one name to check: browsers send one per path
_SAME_SITE = ("Lax", "Strict", "None")

Secrets = str | bytes | Sequence[str | bytes]


class Found(NamedTuple):
    """The bookmarks that came with a request for one database.

    Attributes:
        texts: bookmarks with a valid signature.
        refused: why each of the others was refused, in words.
    """

    texts: list[str]
    refused: list[str]


class Terms:
    """The settings for sending bookmarks out and accepting them back.

    Parameters:
        secret: the key that signs, 16 bytes or more; of several, the first signs and all are accepted.
        cookie: the cookie's name; None: no cookie.
        header: the name of the request's and the response's header; None: no header.
        max_age: seconds after which a bookmark is no longer accepted.
        secure: the cookie's ``Secure``; None: set for https requests.
        same_site: the cookie's ``SameSite``: ``"Lax"``, ``"Strict"`` or ``"None"``.
        domain: the cookie's ``Domain``; None: only the host.
        path: the cookie's ``Path``.
        readonly: the methods whose requests run inside ``readonly()``; True: `SAFE_METHODS`.

    Raises:
        ConfigurationError: an argument cannot work.
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
                f"header={shown(header)}: servers and proxies drop headers with _ in their names; write -"
            )
        if cookie is None and header is None:
            raise ConfigurationError("cookie=None, header=None: bookmarks need one of them to travel in")
        if (
            isinstance(max_age, bool)
            or not isinstance(max_age, int | float)
            or not 1 <= max_age <= _LONGEST_AGE
        ):
            raise ConfigurationError(f"max_age={shown(max_age)}: 1 to {_LONGEST_AGE:.0f} seconds are wanted")
        self.max_age = max_age
        if secure not in (None, True, False):
            raise ConfigurationError(
                f"secure={shown(secure)}: True, False or None (as the request) is wanted"
            )
        self._secure = secure
        if same_site not in _SAME_SITE:
            raise ConfigurationError(
                f"same_site={shown(same_site)}: one of {', '.join(_SAME_SITE)} is wanted"
            )
        if same_site == "None" and secure is False:
            raise ConfigurationError(
                'same_site="None" needs secure=True: browsers refuse the cookie otherwise'
            )
        self._same_site = same_site
        self._where = f"; Path={_checked_attribute('path', path)}"
        if not path.startswith("/"):
            raise ConfigurationError(f"path={shown(path)}: browsers ignore one that does not begin with /")
        if domain is not None:
            self._where += f"; Domain={_checked_attribute('domain', domain)}"
        self.readonly = _checked_methods(readonly)

    def cookie_of(self, label: str) -> str | None:
        """Return the name of a database's cookie."""
        return self._cookie and (f"{self._cookie}_{label}" if label else self._cookie)

    def header_of(self, label: str) -> str | None:
        """Return the name of a database's header."""
        # Servers and proxies silently drop headers with underscores in their names.
        return self._header and (f"{self._header}-{label.replace('_', '-')}" if label else self._header)

    def check_labels(self, labels: Iterable[str]) -> None:
        """Check that each label has its own header; header names ignore case.

        Raises:
            ConfigurationError: two labels would have the same header.
        """
        headers: dict[str, str] = {}
        for label in labels if self._header else ():
            other = headers.setdefault(str(self.header_of(label)).lower(), label)
            if other != label:
                raise ConfigurationError(
                    f"databases: {other!r} and {label!r} would have one header, {self.header_of(label)}"
                )

    def vary(self, label: str) -> list[str]:
        """Return the request headers that a response with a bookmark depends on, for ``Vary``.

        A shared cache then serves the response only to requests with the same bookmark, never a newer one.
        """
        header = self.header_of(label)
        return (["Cookie"] if self._cookie else []) + ([header] if header else [])

    def open(self, label: str, cookies: str, header: str) -> Found:
        """Return the bookmarks that came with a request for one database.

        Parameters:
            label: the database's label.
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
        """Return the response headers that carry a bookmark.

        Parameters:
            label: the database's label.
            text: the bookmark.
            https: whether the request came over https.
        """
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
    """Return the values of the cookies with this name in a ``Cookie`` header, in order."""
    values = []
    for pair in header.split(";"):
        found, equals, value = pair.partition("=")
        if equals and found.strip() == name:
            values.append(value.strip().strip('"'))
    return values


def until_text(moment: float) -> str:
    """Return a text to send instead of a bookmark: the epoch time until which reads stay on the primary."""
    return f"until-{moment * 1000:.0f}"


def until_of(text: str) -> float | None:
    """Return the moment in a text of `until_text`, in seconds since the epoch; None for any other text."""
    found = _UNTIL.fullmatch(text)
    return int(found[1]) / 1000 if found else None


def with_vary(headers: list[tuple[str, str]], more: Iterable[str]) -> list[tuple[str, str]]:
    """Return a response's headers, with more names in ``Vary``."""
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
    """Return the databases by label; a single database has the label ``""``.

    Raises:
        ConfigurationError: a label cannot be part of a cookie's name.
    """
    if not isinstance(databases, Mapping):
        return {"": databases}
    if not databases:
        raise ConfigurationError("databases={}: at least one database is needed")
    for label in databases:
        if not isinstance(label, str) or not _TOKEN.fullmatch(label) or len(label) > _LONGEST_NAME:
            raise ConfigurationError(
                f"databases: {shown(label)}: a word of letters, digits, - and _ is wanted, "
                "for its cookie's name"
            )
    return dict(databases)


def _context(label: str) -> str:
    # The program may sign other texts with its key. With this context, no signature is valid for another
    # purpose or another database.
    return f"peewee_replicas.ext {label}"


def _checked_secrets(given: Secrets) -> tuple[str | bytes, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        given = (given,)
    secrets = tuple(given)
    if not secrets:
        raise ConfigurationError("secret: a key is wanted, or several, of which the first signs")
    for secret in secrets:
        if not isinstance(secret, str | bytes):  # bytes(5) would make five zeros
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
            f"{argument}={shown(name)}: None or a name of up to {_LONGEST_NAME} letters, digits, - and _ "
            "is wanted"
        )
    return name


def _checked_attribute(argument: str, value: str) -> str:
    fits = isinstance(value, str) and value.isascii() and value.isprintable()
    if not fits or not value or set(value) & set("; ,"):
        raise ConfigurationError(f"{argument}={shown(value)}: not allowed in a cookie")
    return value


def _checked_methods(given: bool | Iterable[str]) -> frozenset[str]:
    if isinstance(given, bool):
        return SAFE_METHODS if given else frozenset()
    methods = frozenset(given if isinstance(given, Iterable) else (None,))
    if isinstance(given, str) or not all(isinstance(method, str) for method in methods):
        raise ConfigurationError(
            f'readonly={shown(given)}: True, False or methods such as ("GET",) are wanted'
        )
    return frozenset(method.upper() for method in methods)
