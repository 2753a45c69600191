"""A primary and its replicas on this machine, for tests and demonstrations."""

from __future__ import annotations

import os
import re
import secrets
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from peewee_replicas.testing.control import ADMIN, APP
from peewee_replicas.testing.counts import Counts
from peewee_replicas.testing.installations import Server, check_version, find
from peewee_replicas.testing.launch import check_option_names, new_folder, remove_folder
from peewee_replicas.testing.node import ClusterNode, ClusterSettings

from ..concurrency import Clock

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from peewee_replicas.databases.argument_types import MySQLArguments
    from peewee_replicas.databases.mysql import ReplicatedDatabase
    from peewee_replicas.databases.replicated import Replicated

    class _DatabaseArguments(MySQLArguments, total=False):
        database: str

    P = ParamSpec("P")
    D = TypeVar("D", bound=Replicated)

_FIRST_SYNC_SECONDS = 60.0
_clusters: weakref.WeakSet[LocalCluster] = weakref.WeakSet()


class LocalCluster:
    """One real primary and real replicas of it, on free ports of this machine's loopback.

    It is a context manager. It may be started again after it was stopped; it is then empty::

        with LocalCluster(replicas=2, server="mariadb") as cluster:
            db = cluster.database()

    The servers keep their files in a temporary folder. The servers end and the folder is removed when the
    block is left, or when this process ends in any other way, even by a signal. A forked child may
    connect to the servers, but not start or stop them.

    Args:
        replicas: the number of replicas, 0 or more.
        server: ``"mariadb"`` or ``"mysql"``.
        version: the server's version or its beginning, such as ``"11.8"``. By default what
            ``$PEEWEE_REPLICAS_MARIADB`` or ``$PEEWEE_REPLICAS_MYSQL`` names (a version or a folder), or else
            the server that is installed.
        database: the name of the database that is created on the primary.
        options: server options by node name (``"primary"``, ``"replica-1"``, …) or ``"*"`` for all;
            a node's own options override those for all: ``{"replica-1": {"read_only": False}}``. The value
            ``None`` gives the bare option.

    Raises:
        ValueError: an argument is wrong.
        MissingServer: on start, if the server is not installed on this machine.
        RuntimeError: on start, if a server does not start.

    Attributes:
        user: the application's user. It has all privileges on the database and no others.
        admin_user: a user with all privileges.
        password: the password of both users; a new one on each start.
    """

    def __init__(
        self,
        replicas: int = 2,
        server: Server = "mariadb",
        *,
        version: str | None = None,
        database: str = "app",
        options: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        if server not in ("mariadb", "mysql"):
            raise ValueError(f"server must be 'mariadb' or 'mysql', not {server!r}")
        if version is not None:
            check_version(version)
        if replicas < 0:
            raise ValueError(f"replicas must be 0 or more, not {replicas!r}")
        if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", database):
            raise ValueError(f"database must be letters, digits and _, not {database!r}")
        self.server: Server = server
        self.user = APP
        self.admin_user = ADMIN
        self.password = ""
        self.database_name = database
        self._names = ("primary", *(f"replica-{n}" for n in range(1, replicas + 1)))
        self._options = _checked_options(options or {}, self._names)
        self._nodes: tuple[ClusterNode, ...] = ()
        self._wanted_version = version
        self._version = ""
        self._stopping = ExitStack()
        self._finalizer: weakref.finalize[..., LocalCluster] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def nodes(self) -> tuple[ClusterNode, ...]:
        """All nodes, the primary first. Raises ``RuntimeError`` while the cluster is stopped."""
        if not self._nodes:
            raise RuntimeError("the cluster is not running: start() it or use it in a with block")
        return self._nodes

    @property
    def primary(self) -> ClusterNode:
        """The node that accepts writes."""
        return self.nodes[0]

    @property
    def replicas(self) -> tuple[ClusterNode, ...]:
        """The nodes that replicate from the primary."""
        return self.nodes[1:]

    @property
    def version(self) -> str:
        """The servers' version, such as ``"10.11.6"``; empty before the first start."""
        return self._version

    def start(self) -> None:
        """Start all nodes and wait until every replica has caught up with the primary.

        Raises:
            MissingServer: the server is not installed on this machine.
            RuntimeError: a server does not start, or the cluster is already running.
        """
        if self._nodes:
            raise RuntimeError("the cluster is already running")
        installation = find(self.server, self._wanted_version)
        self._version = installation.version
        self.password = secrets.token_hex(12)
        folder = new_folder()
        settings = ClusterSettings(installation, folder, self.database_name, self.password)
        self._nodes = tuple(
            ClusterNode(
                settings,
                name,
                "replica" if number > 1 else "primary",
                number,
                {**self._options.get("*", {}), **self._options.get(name, {})},
            )
            for number, name in enumerate(self._names, 1)
        )
        self._stopping = ExitStack()
        self._finalizer = weakref.finalize(self, _tear_down, self._nodes, folder, os.getpid())
        _clusters.add(self)
        try:
            self._bring_up()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the databases made by ``database()``, stop all servers and remove their files."""
        with self._lock:
            finalizer, self._finalizer = self._finalizer, None
            self._nodes = ()
        if finalizer is not None:
            try:
                self._stopping.close()
            finally:
                finalizer()

    @overload
    def database(
        self, database_class: None = None, **options: Unpack[_DatabaseArguments]
    ) -> ReplicatedDatabase: ...

    @overload
    def database(
        self, database_class: Callable[Concatenate[str, P], D], *_: P.args, **options: P.kwargs
    ) -> D: ...

    def database(self, database_class: Callable[..., Any] | None = None, *_: object, **options: Any) -> Any:
        """Return a database over the cluster. `stop` closes the calling thread's connections.

        Args:
            database_class: the class to make; by default ``ReplicatedDatabase``.
            options: further arguments, which override the cluster's own: ``policy="random"``,
                ``user="admin"``. There is no prober unless ``probe_interval`` is given, so that the servers
                count only what the test sends.
        """
        if database_class is None:
            from peewee_replicas.databases.mysql import ReplicatedDatabase

            database_class = ReplicatedDatabase
        own = self.parameters(self.primary)
        name = options.pop("database", own.pop("database"))
        replicas = [{"name": node.name, "host": node.host, "port": node.port} for node in self.replicas]
        database = database_class(name, **{**own, "replicas": replicas, "probe_interval": None, **options})
        for method in ("dispose", "close_all"):  # not every class of peewee's has them
            if hasattr(database, method):
                self._stopping.callback(getattr(database, method))
        self._stopping.callback(database.close)  # registered last, so called first
        return database

    def parameters(self, node: ClusterNode | str) -> dict[str, Any]:
        """Return a driver's arguments to connect to a node as ``user``; `node` is a node or its name."""
        if isinstance(node, str):
            node = self.node(node)
        return {
            "host": node.host,
            "port": node.port,
            "user": self.user,
            "password": self.password,
            "database": self.database_name,
        }

    def node(self, name: str) -> ClusterNode:
        """Return the node with this name. Raises ``KeyError`` if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r}: there are {', '.join(self._names)}")

    def sync(self, timeout: float = 10.0) -> None:
        """Wait until every running replica that is not frozen has applied everything the primary has now.

        Args:
            timeout: seconds, for all replicas together.

        Raises:
            TimeoutError: some replicas are late; the message names them and their state. It is raised at once
                if a replica has stopped applying with an error.
            RuntimeError: the primary is paused or down.
        """
        began = Clock.monotonic()
        position = self.primary.position()
        waited = [node for node in self.replicas if node.state == "running" and not node.frozen]
        late = [node for node in waited if not node.wait_for(position, began + timeout)]
        if late:
            states = "; ".join(_describe(node) for node in late)
            seconds = Clock.monotonic() - began
            raise TimeoutError(f"not at the primary's {position} after {seconds:.1f} s: {states}")

    def counts(self) -> dict[str, Counts]:
        """Return what clients did on each node since the last ``reset_counts()``, by the node's name."""
        return {node.name: node.counts() for node in self.nodes}

    def reset_counts(self) -> None:
        """Start counting from zero on all nodes."""
        for node in self.nodes:
            node.reset_counts()

    def abandon(self) -> None:
        """Forget the servers, which belong to the parent. Called automatically in a forked child."""
        self._lock = threading.Lock()
        self._stopping.pop_all()
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None
        for node in self._nodes:
            node.abandon()

    def _bring_up(self) -> None:
        with ThreadPoolExecutor(len(self._nodes)) as threads:
            for started in [threads.submit(node.start) for node in self._nodes]:
                started.result()
        for replica in self.replicas:
            replica.follow(self.primary)
        # This statement is replicated like all later ones, so the first sync() shows that replication works.
        self.primary.execute(f"CREATE DATABASE `{self.database_name}`")
        self.sync(_FIRST_SYNC_SECONDS)
        self.reset_counts()


def _checked_options(
    options: Mapping[str, Mapping[str, object]], names: tuple[str, ...]
) -> dict[str, dict[str, object]]:
    for name, values in options.items():
        if name not in (*names, "*"):
            raise ValueError(f"options are for {', '.join(names)} or '*', not {name!r}")
        check_option_names(values)
    return {
        name: {option.replace("-", "_"): value for option, value in values.items()}
        for name, values in options.items()
    }


def _describe(node: ClusterNode) -> str:
    if node.state != "running":
        return f"{node.name} is {node.state}"
    status = node.replication_status()
    words = {name.lower().replace("slave", "replica"): value for name, value in status.items()}
    text = (
        f"{node.name} receives: {words.get('replica_io_running')}, "
        f"applies: {words.get('replica_sql_running')}, delay {words.get('sql_delay')} s"
    )
    errors = [str(words[key]) for key in ("last_io_error", "last_sql_error") if words.get(key)]
    # MySQL's report may only refer to the log, so add the end of the log.
    return ", ".join([text, *errors]) + (f"\n{node.log_tail(3)}" if errors else "")


def _tear_down(nodes: tuple[ClusterNode, ...], folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        for node in nodes:
            node.destroy()
        remove_folder(folder)


def _abandon_all() -> None:
    for cluster in list(_clusters):
        cluster.abandon()


os.register_at_fork(after_in_child=_abandon_all)
