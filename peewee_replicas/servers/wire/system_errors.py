"""What the operating system said when a connection could not be opened, behind the driver's own error."""

from __future__ import annotations

import socket
import ssl

from pymysql import err
from pymysql.constants import CR

from ..error_meanings import SystemFailure


def behind(exc: BaseException) -> SystemFailure | None:
    """The system's error that a driver's exception was made of, or None where there is none.

    Parameters:
        exc: what the driver raised, or peewee's form of it.
    """
    driver: BaseException = getattr(exc, "orig", exc)  # peewee keeps the driver's there
    # PyMySQL keeps it as an attribute; the asyncio form has it as the cause.
    found = getattr(driver, "original_exception", None) or driver.__cause__
    if isinstance(found, ssl.SSLError):
        return SystemFailure("tls", None)
    if isinstance(found, socket.gaierror):
        return SystemFailure("name", None)
    return SystemFailure("other", found.errno) if isinstance(found, OSError) else None


def tls_not_prepared(exc: OSError) -> err.OperationalError:
    """The driver's error for what went wrong before it began to connect: it reads certificates then.

    PyMySQL lets these through as they are, and nobody would know that they came from connecting.
    """
    failure = err.OperationalError(CR.CR_SSL_CONNECTION_ERROR, f"TLS cannot be prepared: {exc}")
    failure.original_exception = exc
    return failure
