"""What the nodes of a database answered. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from peewee_replicas.nodes.fitness import Fitness
from peewee_replicas.nodes.interview import Facts
from peewee_replicas.nodes.tags import NO_TAGS, Tags
from peewee_replicas.servers.protocols import Record


class NodeAnswers(NamedTuple):
    """What one node answered.

    Attributes:
        name, address, tags: as in `Replica`.
        host, user, database: as this process connects to it.
        is_primary: whether it is the primary.
        error: why it could not be asked, in words; ``""`` if it was.
        number: the number of that error, or 0.
        lacks_password: whether the program's callable for passwords failed.
        version: its version, as in its greeting.
        facts: its role, position and channels; None if it was not asked, or keeps none.
        fitness: the library's verdict; None if it was not asked.
        channels: the rows of its replication status; None if this user may not see them.
        variables: its settings, `GLOBAL_VARIABLES`.
        session: the settings of a session of this program, `SESSION_VARIABLES`.
        status: how many clients are connected to it, and the cipher of this connection.
        account: the account that the server takes this user for.
        grants: that account's privileges, as SHOW GRANTS reports them.
        tracks: whether the server reports changes of the session, which a proxy can prevent.
    """

    name: str
    address: str
    host: str
    user: str
    database: str
    is_primary: bool
    tags: Tags = NO_TAGS
    error: str = ""
    number: int = 0
    lacks_password: bool = False
    version: str = ""
    facts: Facts | None = None
    fitness: Fitness | None = None
    channels: Sequence[Record] | None = None
    variables: Mapping[str, str] = {}
    session: Mapping[str, str] = {}
    status: Mapping[str, str] = {}
    account: str = ""
    grants: tuple[str, ...] = ()
    tracks: bool = True

    @property
    def answered(self) -> bool:
        """Whether it could be asked."""
        return not self.error

    @property
    def is_mysql(self) -> bool:
        """Whether it is MySQL, and not MariaDB."""
        return self.facts is not None and self.facts.dialect.NAME == "mysql"


class Survey(NamedTuple):
    """What all nodes of one database answered.

    Attributes:
        primary: the primary.
        replicas: the nodes that serve reads, in the order they were given. The primary is one of them if it
            is listed.
        pool: how many connections each pool may open; None if the database has no pools.
        kind: the name of the database's class.
        undiscovered: why a callable ``replicas`` has named no nodes; ``""`` if it has, or if there is none.
    """

    primary: NodeAnswers
    replicas: tuple[NodeAnswers, ...]
    pool: int | None = None
    kind: str = ""
    undiscovered: str = ""

    @property
    def nodes(self) -> tuple[NodeAnswers, ...]:
        """Every node, once; the primary first."""
        return (self.primary, *(node for node in self.replicas if not node.is_primary))
