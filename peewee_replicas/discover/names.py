"""Find replicas by a name: by its addresses, or by its SRV records."""

from __future__ import annotations

import socket
from collections.abc import Callable

from .answers import Found, addresses


def dns(name: str, port: int = 3306) -> Callable[[], Found]:
    """Return a callable that finds all addresses of a name, as of a headless service of Kubernetes.

    It asks as the system does (``getaddrinfo``), for IPv4 and IPv6. The system's own time limit applies.

    Parameters:
        name: the name.
        port: the port of all replicas.
    """

    def ask() -> Found:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        return addresses([str(place[0]) for *_, place in found], port)

    return ask


def srv(name: str, *, seconds: float = 5.0) -> Callable[[], Found]:
    """Return a callable that finds the servers of a name's SRV records, with their ports and weights.

    Records with a higher priority number than the lowest are spares, and not used. An answer is asked for
    anew once its time to live is over. Needs dnspython: the extra ``dns``.

    Parameters:
        name: such as ``_mysql._tcp.replicas.example``.
        seconds: time limit for each question.

    Raises:
        ModuleNotFoundError: dnspython is not installed.
    """
    from .service_records import ServiceRecords

    return ServiceRecords(name, seconds).find
