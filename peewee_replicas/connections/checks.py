"""What is checked of each new connection, and what is learned from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from peewee import OperationalError

from ..errors import ConfigurationError
from ..nodes.cluster import Cluster
from ..routing.router import Router
from ..servers.protocols import ServerConnection
from ..servers.wire import connection as wire
from .questions import QUESTION_SECONDS
from .user_database import UserDatabase

logger = logging.getLogger("peewee.replicas")


class LostByAsking(OperationalError):
    """A new connection was good until the library asked it something; another will not be asked."""


class ConnectionChecks:
    """Checks and takes in the new connections of one database.

    Parameters:
        db: the user's database.
        cluster: the nodes.
        router: is told which server it is.
    """

    def __init__(self, db: UserDatabase, cluster: Cluster, router: Router) -> None:
        self.db = db
        self.cluster = cluster
        self.router = router

    def check(self, label: str, conn: ServerConnection, parameters: Mapping[str, object]) -> None:
        """Raise `ConfigurationError` where a subclass has opened what cannot be used.

        Parameters:
            label: the node, for messages.
            parameters: what the connection was to be opened with.
        """
        if not isinstance(conn, wire.Connection):
            raise ConfigurationError(
                f"{type(self.db).__name__}._connect() gave a {type(conn).__name__} for {label}; "
                "call super()._connect(), so that the server's reports are heard"
            )
        if conn.unix_socket and not parameters.get("unix_socket"):
            raise ConfigurationError(
                f"{label} is given by host, but the driver took the socket {conn.unix_socket} from "
                "read_default_file, which may lead to another server; give unix_socket or drop the file"
            )

    def take_in(self, name: str, conn: ServerConnection) -> None:
        """Learn from a new connection which server it is and how it is set up.

        Parameters:
            name: the node's.

        Raises:
            LostByAsking: it is lost through that; opening it once more will do.
        """
        db, router, cluster = self.db, self.router, self.cluster
        if db.server_version is None:
            db._set_server_version(conn)
        router.learn_server(conn.dialect.NAME, conn.server_version)
        if conn.dialect.COMPARE and cluster.replicas.all and cluster.settings_met.needed(name):
            self._compare(name, conn)
        # What connecting set is how the user wants every connection to be, not state of this one.
        conn.changes.clear()
        conn.initialized = True

    def _compare(self, name: str, conn: ServerConnection) -> None:
        """Compare the node's settings with the others'; one that does not tell them serves all the same."""
        try:
            settings: dict[str, object] = dict(conn.ask(conn.dialect.COMPARE, QUESTION_SECONDS))
        except Exception as exc:
            if conn.dropped():
                self.cluster.settings_met.give_up(name)
                raise LostByAsking(*exc.args) from exc
            logger.debug("the settings of %s are not compared with the other nodes': %s", name, exc)
            return
        self.cluster.settings_met.add(name, settings)
