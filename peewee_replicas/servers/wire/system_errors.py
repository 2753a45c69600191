"""Find the operating system's error inside the driver's error when a connection could not be opened."""

from __future__ import annotations

import socket
import ssl

from pymysql import err
from pymysql.constants import CR

from ..error_meanings import SystemFailure


def system_failure(exc: BaseException) -> SystemFailure | None:
    """Return the system's error that caused a driver's exception, or None if there is none.

    Parameters:
        exc: the driver's exception, or peewee's wrapper of it.
    """
    driver: BaseException = getattr(exc, "orig", exc)  # peewee keeps the driver's exception there
    # PyMySQL keeps the system's error in an attribute; the asyncio form has it as the cause.
    found = getattr(driver, "original_exception", None) or driver.__cause__
    if isinstance(found, ssl.SSLError):
        return SystemFailure("tls", None)
    if isinstance(found, socket.gaierror):
        return SystemFailure("name", None)
    return SystemFailure("other", found.errno) if isinstance(found, OSError) else None


def tls_not_prepared(exc: OSError) -> err.OperationalError:
    """Return a driver's error for an `OSError` from reading certificates, which happens before connecting.

    PyMySQL raises the bare `OSError`, which does not show that it came from connecting.
    """
    failure = err.OperationalError(CR.CR_SSL_CONNECTION_ERROR, f"TLS cannot be prepared: {exc}")
    failure.original_exception = exc
    return failure
