"""Check each new connection, and record what it shows about its server."""

from __future__ import annotations

from collections.abc import Mapping

from peewee import OperationalError

from ..errors import ConfigurationError
from ..log import log_event
from ..nodes.cluster import Cluster
from ..routing.router import Router
from ..servers.error_meanings import in_words
from ..servers.protocols import ServerConnection
from ..servers.refusals import refusal
from ..servers.wire import connection as wire
from .questions import QUESTION_SECONDS
from .user_database import UserDatabase


class LostByAsking(OperationalError):
    """One of the library's own questions lost a new connection; it is not asked again on the next one."""


class ConnectionChecks:
    """Checks the new connections of one database, and records what they show about their servers.

    Parameters:
        db: the user's database.
        cluster: the nodes.
        router: learns the dialect and version of each server.
    """

    def __init__(self, db: UserDatabase, cluster: Cluster, router: Router) -> None:
        self.db = db
        self.cluster = cluster
        self.router = router
        self._logged_untracked = False

    def check(self, label: str, conn: ServerConnection, parameters: Mapping[str, object]) -> None:
        """Raise `ConfigurationError` if the connection is of the wrong class or leads to the wrong server.

        Parameters:
            label: the node's name for messages.
            parameters: the arguments for the driver.
        """
        if not isinstance(conn, wire.Connection):
            raise ConfigurationError(
                f"{type(self.db).__name__}._connect() returned a {type(conn).__name__} for {label}; "
                "call super()._connect(), because the library reads the server's reports"
            )
        if conn.unix_socket and not parameters.get("unix_socket"):
            raise ConfigurationError(
                f"{label} is given by host, but the driver took the socket {conn.unix_socket} from "
                "read_default_file, which may lead to another server; pass unix_socket or drop the file"
            )

    def take_in(self, name: str, conn: ServerConnection) -> None:
        """Record the dialect, version and settings of a new connection's server.

        Parameters:
            name: the node's name.

        Raises:
            LostByAsking: the question about settings lost the connection; open another.
        """
        db, router, cluster = self.db, self.router, self.cluster
        if db.server_version is None:
            db._set_server_version(conn)
        router.learn_server(conn.dialect.NAME, conn.server_version)
        if conn.untracked:
            self._log_untracked(name, conn.untracked)
        if conn.dialect.COMPARE and cluster.replicas.all and cluster.settings_met.needed(name):
            self._compare(name, conn)
        # The user sets these up on every connection, so they are not state that only this one has.
        conn.changes.clear()
        conn.initialized = True

    def _log_untracked(self, name: str, error: str) -> None:
        if not self._logged_untracked:
            self._logged_untracked = True
            log_event(
                "reports_off",
                "%s does not report positions and changes of the session (%s), as a proxy that shares "
                "connections may prevent: the library asks the primary for its position before the first "
                "read after each write, and stats() counts that as asked. Connect to the server itself, or "
                "turn off connection sharing in the proxy",
                name,
                error,
                node=name,
                cause=error,
            )

    def _compare(self, name: str, conn: ServerConnection) -> None:
        """Compare the settings of the node and the others. A node that does not report them still serves."""
        try:
            settings: dict[str, object] = dict(conn.ask(conn.dialect.COMPARE, QUESTION_SECONDS))
        except Exception as exc:
            if conn.dropped():
                self.cluster.settings_met.give_up(name)
                raise LostByAsking(*exc.args) from exc
            if refusal(exc):
                self.cluster.settings_met.give_up(name)  # or each new connection would ask again
            log_event(
                "question_failed",
                "cannot compare the settings of %s with the other nodes': %s",
                name,
                in_words(exc),
                node=name,
                cause=in_words(exc),
            )
            return
        if settings.pop("wsrep_on", "OFF") == "ON":
            for node in self.cluster.nodes():
                node.in_galera = node.in_galera or node.name == name
        self.cluster.settings_met.add(name, settings)
