"""One TLS context for all connections of a process that ask for nothing special.

PyMySQL makes a context for each of them and reads the system's certificates into it, which takes longer than
most tests do.
"""

from __future__ import annotations

import os
import ssl
from functools import cache
from typing import Any

from pymysql.connections import Connection

_of_the_driver = Connection._create_ssl_ctx


@cache
def _usual() -> ssl.SSLContext:
    """Like the driver's, which trusts every server, but without certificates to look through."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# A thread of the parent may have been inside of OpenSSL, where a context has locks of its own.
os.register_at_fork(after_in_child=_usual.cache_clear)


def _shared(connection: Any, settings: Any) -> ssl.SSLContext:
    return _usual() if settings == {} else _of_the_driver(connection, settings)


def share_context() -> None:
    """Use one context in this process from now on."""
    Connection._create_ssl_ctx = _shared
