"""Who the nodes of one database are: those that the program lists, or that its callable finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from ..connections.parts import Parts
from ..connections.plain_database import PlainDatabase
from ..errors import ConfigurationError
from ..log import log_event
from ..nodes.cluster import Cluster
from ..nodes.discovery import Discovery, Source
from ..nodes.spec import NodeSpec, by_name
from .assembly import Assembly
from .primary_move import move_primary


class NodeList:
    """The nodes that one database was given last, and how they change.

    Parameters:
        plain: the user's database without routing.
        assembly: checks and creates the nodes.

    Attributes:
        given: the routing arguments as they were given last, with the replicas found since.
        ask: the callable that finds the replicas; None if the program lists them.
    """

    def __init__(self, plain: PlainDatabase, assembly: Assembly) -> None:
        self.given: dict[str, object] = {}
        self.ask: Callable[..., object] | None = None
        self._plain = plain
        self._assembly = assembly

    @property
    def _cluster(self) -> Cluster:
        parts: Parts = vars(self._plain.db)["_parts"]
        return parts.cluster

    def given_with(
        self, arguments: Mapping[str, object]
    ) -> tuple[dict[str, object], Callable[..., object] | None]:
        """Return `given` and `ask` as they would be with these arguments; change nothing."""
        given, ask = {**self.given, **arguments}, self.ask
        if "replicas" in arguments:
            replicas = given["replicas"] = _kept(arguments["replicas"])
            ask = replicas if callable(replicas) else None
        return given, ask

    def _listed(self) -> tuple[NodeSpec, ...]:
        return self._assembly.node_specs(self.given, self._assembly.configured())

    def set_replicas(self, replicas: object) -> None:
        """Change the replicas; all or nothing.

        Raises:
            ConfigurationError: the list is empty or cannot work; nothing was changed.
        """
        replicas = _kept(replicas)
        cluster = self._cluster
        with cluster.membership_lock:
            given = {**self.given, "replicas": replicas}
            specs = self._assembly.node_specs(given, self._assembly.configured())
            if not specs:
                raise ConfigurationError(
                    "replicas: an empty list would send every read to the primary, which is refused here "
                    "because discovery may find no nodes by mistake; to do so on purpose, give every "
                    "node weight=0, or eject() each"
                )
            self._assembly.change_nodes(specs, cluster)
            self.given, self.ask = given, None
            if cluster.discovery is not None:
                cluster.discovery.retire()

    def move_primary(self, parts: Parts, name: object, why: str) -> bool:
        """Let writes go to another node from now on; return False if they already go there.

        Parameters:
            parts: the database's collaborators; nothing moves if ``init()`` has made others meanwhile.
            name: the node's name.
            why: the reason for the log and the event, in words.
        """
        return move_primary(self._plain, self._assembly, parts, self._listed, name, why)

    # Discovery

    def discover(self, cluster: Cluster, refresh: float, before: Parts | None) -> None:
        """Let the callable find the replicas from now on, if the program gave one.

        Parameters:
            cluster: the nodes.
            refresh: seconds between two calls.
            before: the database's collaborators until now, if any.
        """
        if self.ask is not None:
            cluster.discovery = Discovery(
                self._source(self.ask, before),
                partial(self._take_discovered, cluster),
                refresh,
                cluster.replicas,
                cluster.news,
            )

    def _source(self, ask: Callable[..., object], before: Parts | None) -> Source:
        earlier = None if before is None else before.cluster.discovery
        if earlier is not None and earlier.source.ask is ask:
            return earlier.source  # a thread may still be inside the callable
        return Source(ask, self._plain.db)

    def _take_discovered(self, cluster: Cluster, replicas: object) -> None:
        """Change the replicas to those that discovery found.

        Raises:
            ConfigurationError: the answer is empty or cannot work; nothing was changed.
        """
        replicas = _kept(replicas)
        assert cluster.discovery is not None
        with cluster.membership_lock:
            if cluster is not self._cluster or cluster.discovery.retired:
                return  # the program has named others meanwhile
            parameters = self._assembly.configured()
            given = {**self.given, "replicas": replicas}
            specs = self._assembly.node_specs(given, parameters)
            if not specs:
                raise ConfigurationError("replicas: the callable named none")
            # In another order they are the same: DNS, for one, changes the order each time.
            if by_name(specs) == by_name(self._assembly.node_specs(self.given, parameters)):
                return
            self._assembly.change_nodes(specs, cluster)
            self.given = given
        names = ", ".join(spec.name for spec in specs)
        database = self._plain.db.database
        log_event("members_changed", "the replicas of %s are now %s", database, names, cause=f"now {names}")


def _kept(replicas: object) -> object:
    """Return the argument ``replicas`` in a form that can be iterated again."""
    if isinstance(replicas, Iterable) and not isinstance(replicas, (str, Mapping)):
        return list(replicas)
    return replicas
