"""The statements that control replication, for MariaDB and MySQL."""

from __future__ import annotations

from dataclasses import dataclass

from peewee_replicas.testing.installations import Server


@dataclass(frozen=True)
class ReplicationStatements:
    """The statements of one kind of server."""

    follow: str
    """For a replica that has never followed a primary. Parameters: host, port, user and password."""
    start: str
    start_receiver: str
    start_applier: str
    stop: str
    stop_applier: str
    disconnect: str
    """Sent to replicas before their primary shuts down; empty if they do not delay the shutdown."""
    delay: str
    """Parameter: whole seconds."""
    status: str
    position: str
    """The primary's GTID position: one row, one column."""
    wait: str
    """Parameters: a position, and seconds above zero. The result 0 means that the position was reached."""


STATEMENTS: dict[Server, ReplicationStatements] = {
    "mariadb": ReplicationStatements(
        follow=(
            "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, "
            "MASTER_PASSWORD = %s, MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos"
        ),
        start="START SLAVE",
        start_receiver="START SLAVE IO_THREAD",
        start_applier="START SLAVE SQL_THREAD",
        stop="STOP SLAVE",
        stop_applier="STOP SLAVE SQL_THREAD",
        disconnect="",
        delay="CHANGE MASTER TO MASTER_DELAY = %s",
        status="SHOW SLAVE STATUS",
        position="SELECT @@GLOBAL.gtid_binlog_pos",
        wait="SELECT MASTER_GTID_WAIT(%s, %s)",
    ),
    "mysql": ReplicationStatements(
        follow=(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s, "
            # Without a retry count of 0, a replica gives up after its primary was down for ten seconds.
            "SOURCE_PASSWORD = %s, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0, "
            "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
        ),
        start="START REPLICA",
        start_receiver="START REPLICA IO_THREAD",
        start_applier="START REPLICA SQL_THREAD",
        stop="STOP REPLICA",
        stop_applier="STOP REPLICA SQL_THREAD",
        disconnect="STOP REPLICA IO_THREAD",
        delay="CHANGE REPLICATION SOURCE TO SOURCE_DELAY = %s",
        status="SHOW REPLICA STATUS",
        position="SELECT @@GLOBAL.gtid_executed",
        wait="SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)",
    ),
}


def accounts(
    server: Server,
    *,
    database: str,
    app: str,
    admins: tuple[str, ...],
    replication: str,
    password: str,
) -> str:
    """Return the statements that create the users in a new data directory, for the server's ``init_file``.

    Names and passwords come from the cluster and need no quoting.
    """
    pattern = database.replace("_", r"\_")
    if server == "mariadb":
        clear = [
            "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys'",
            "FLUSH PRIVILEGES",
        ]
        restore = []
    else:
        clear = [
            "SET @super_read_only = @@GLOBAL.super_read_only, @read_only = @@GLOBAL.read_only",
            "SET GLOBAL super_read_only = OFF",
            "DROP USER IF EXISTS root@localhost",
        ]
        restore = [
            "SET GLOBAL read_only = @read_only",
            "SET GLOBAL super_read_only = @super_read_only",
        ]
    users = [f"CREATE USER {name}@'%' IDENTIFIED BY '{password}'" for name in (app, *admins, replication)]
    statements = [
        # Every node creates the users itself, because replication cannot run without them.
        "SET SESSION sql_log_bin = 0",
        *clear,
        *users,
        *(f"GRANT ALL PRIVILEGES ON *.* TO {name}@'%' WITH GRANT OPTION" for name in admins),
        f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO {app}@'%'",
        f"GRANT REPLICATION SLAVE ON *.* TO {replication}@'%'",
        *restore,
    ]
    return "".join(f"{statement};\n" for statement in statements)
