"""Ask for SRV records with dnspython."""

from __future__ import annotations

from ..errors import importing_extra
from .answers import Found, ServiceRecord, services

with importing_extra("dns", "peewee_replicas.discover"):
    from dns.rdtypes.IN.SRV import SRV
    from dns.resolver import Cache, Resolver


class ServiceRecords:
    """The SRV records of a name.

    Parameters:
        name: the name.
        seconds: time limit for each question.
        resolver: asks the name servers; None: those that the system is configured with.
    """

    def __init__(self, name: str, seconds: float, resolver: Resolver | None = None) -> None:
        self._name = name
        self._seconds = seconds
        self._resolver = resolver

    def find(self) -> Found:
        """Ask, unless the last answer is still valid, and return the servers."""
        if self._resolver is None:
            self._resolver = Resolver()
        if self._resolver.cache is None:
            self._resolver.cache = Cache()  # keeps answers for their time to live
        answer = self._resolver.resolve(self._name, "SRV", lifetime=self._seconds)
        records = [record for record in answer if isinstance(record, SRV)]
        return services(
            [ServiceRecord(each.priority, each.weight, each.port, each.target.to_text()) for each in records]
        )
