"""URLs for `playhouse.db_url`: ``mysql+replicas://primary/app?replica=host:port&replica=host:port``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from urllib.parse import ParseResult, parse_qsl

from playhouse import db_url

from ..errors import ConfigurationError

_UNREADABLE = (
    "the database URL cannot be parsed: its port is not a number, or its user or password contains one of "
    "/ ? # @ [ ]; percent-encode these, such as %2F for /, and pass unquote_password=True to connect()"
)


def register(schemes: dict[str, Callable[..., object]]) -> None:
    """Register our URL schemes with `playhouse.db_url`.

    db_url keeps only the last of several query parameters with the same name, so for our schemes (and no
    other) the ``replica`` parameters are collected into ``replicas``.
    """
    for scheme, make in schemes.items():
        db_url.register_database(make, scheme)
    plain = db_url.parseresult_to_dict
    if hasattr(plain, "replica_schemes"):
        plain.replica_schemes.update(schemes)
        return

    @functools.wraps(plain)
    def parseresult_to_dict(parsed: ParseResult, *args: object, **kwargs: object) -> dict[str, object]:
        found: dict[str, object]
        try:
            # An unquoted # or / in a password would make its first part the host.
            if parsed.scheme in known and parsed.netloc and (parsed.fragment or "@" in parsed.path):
                raise ValueError
            found = plain(parsed, *args, **kwargs)
        except ValueError:
            if parsed.scheme not in known:
                raise
            # Shows neither the URL nor the parser's message, as both may contain a password.
            raise ConfigurationError(_UNREADABLE) from None
        if parsed.scheme in known and "replica" in found:
            if "replicas" in found:
                raise ConfigurationError(
                    "replicas: in a URL only the parameter replica=host, once for each, is read"
                )
            del found["replica"]
            found["replicas"] = [
                value for name, value in parse_qsl(parsed.query, keep_blank_values=True) if name == "replica"
            ]
        return found

    known = set(schemes)
    parseresult_to_dict.replica_schemes = known  # type: ignore[attr-defined]  # marks our wrapper
    db_url.parseresult_to_dict = parseresult_to_dict
