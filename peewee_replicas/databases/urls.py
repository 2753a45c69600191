"""URLs for `playhouse.db_url`: ``mysql+replicas://primary/app?replica=host:port&replica=host:port``."""

from __future__ import annotations

import functools
from urllib.parse import ParseResult, parse_qsl

from playhouse import db_url

from ..errors import ConfigurationError

_UNREADABLE = (
    "the URL of the database cannot be read: its port is no number, or its user or password holds one of "
    "/ ? # @ [ ]; write it quoted, such as %2F for /, and give unquote_password=True to connect()"
)


def register(schemes: dict[str, type]) -> None:
    """Make `playhouse.db_url.connect` know our schemes.

    db_url keeps only the last of several query parameters of one name, so the ``replica`` parameters of
    our schemes (and of no other) are collected into ``replicas``.
    """
    for scheme, database_class in schemes.items():
        db_url.register_database(database_class, scheme)
    plain = db_url.parseresult_to_dict
    if hasattr(plain, "replica_schemes"):
        plain.replica_schemes.update(schemes)
        return

    @functools.wraps(plain)
    def parseresult_to_dict(parsed: ParseResult, *args: object, **kwargs: object) -> dict[str, object]:
        found: dict[str, object]
        try:
            # Such a sign within a password would make its beginning the host.
            if parsed.scheme in known and parsed.netloc and (parsed.fragment or "@" in parsed.path):
                raise ValueError
            found = plain(parsed, *args, **kwargs)
        except ValueError:
            if parsed.scheme not in known:
                raise
            # Without the URL and without the parser's words: both may hold a password.
            raise ConfigurationError(_UNREADABLE) from None
        if parsed.scheme in known and "replica" in found:
            del found["replica"]
            found["replicas"] = [
                value for name, value in parse_qsl(parsed.query, keep_blank_values=True) if name == "replica"
            ]
        return found

    known = set(schemes)
    parseresult_to_dict.replica_schemes = known  # type: ignore[attr-defined]  # told apart by it
    db_url.parseresult_to_dict = parseresult_to_dict
