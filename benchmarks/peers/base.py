"""What every peer is told and has to offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Site:
    """The servers, as a program that uses them is configured.

    Attributes:
        primary, replicas: the nodes themselves.
        writers, readers: HAProxy in front of the primary and of all replicas; None where there is no HAProxy.
            Both at the port that MySQL has by default, on two addresses.
        first, last: the rows that belong to this peer; nobody else writes to them.
    """

    primary: Address
    replicas: tuple[Address, ...]
    user: str
    password: str
    database: str
    first: int
    last: int
    writers: Address | None = None
    readers: Address | None = None

    def parameters(self, address: Address) -> dict[str, Any]:
        """What a driver needs for one address."""
        return {
            "host": address.host,
            "port": address.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
        }

    def url(self, address: Address, scheme: str = "mysql+pymysql") -> str:
        """The same as a URL."""
        return f"{scheme}://{self.user}:{self.password}@{address.host}:{address.port}/{self.database}"

    @classmethod
    def load(cls, values: dict[str, Any]) -> Site:
        """What `dataclasses.asdict()` gave, after a journey as JSON."""
        values = dict(values)
        for name in ("primary", "writers", "readers"):
            values[name] = Address(*values[name]) if values[name] else None
        values["replicas"] = tuple(Address(*each) for each in values["replicas"])
        return cls(**values)


class Answer(NamedTuple):
    """One row as it was read: the value that the peer wrote, and the number of the node that served it."""

    n: int
    node: int


class Program:
    """One tool, in one form.

    `read` is a single read in the middle of a longer piece of work: its cost is compared. `visit_read` and
    `visit_write` are whole requests of one user, with whatever the tool's documentation has around a request.

    Attributes:
        user: whose requests they are, where the tool tells users apart.
    """

    user = 0

    def read(self, key: int) -> Answer:
        """One row, by its primary key."""
        raise NotImplementedError

    def visit_read(self, key: int) -> Answer:
        """A request that reads one row."""
        return self.read(key)

    def visit_write(self, key: int, n: int) -> None:
        """A request that changes one row; it is committed on return."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing open."""
