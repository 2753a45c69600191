"""Decides what is set up wrong, from the nodes' answers. Makes decisions only: no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .answers import NodeAnswers, Survey


class Finding(NamedTuple):
    """Something that is set up wrong.

    Attributes:
        code: a fixed word for it.
        node: the node where it was found.
        cause: what is wrong, in words.
        remedy: what to do, with the statement or the lines of ``my.cnf``.
    """

    code: str
    node: str
    cause: str
    remedy: str


def find_faults(found: Survey, processes: int = 1) -> list[Finding]:
    """Return everything that is set up wrong, in the order in which to mend it.

    Parameters:
        found: the nodes' answers.
        processes: how many processes use the database.
    """
    findings = [finding for node in found.nodes for rule in _BY_NODE for finding in rule(node)]
    for compare in _AGAINST_PRIMARY:
        for node in found.nodes:
            if not node.is_primary and node.answered and found.primary.answered:
                findings += compare(node, found.primary)
    findings += _undiscovered(found) if found.undiscovered else _no_replicas(found)
    for node in found.nodes:
        findings += _too_many_connections(node, found.pool, processes)
    return findings


# Login

_ACCESS_DENIED = {1045, 1698, 1251, 2059}
_NO_SCHEMA_RIGHT = 1044
_NO_SCHEMA = 1049
_HOST_NOT_ALLOWED = 1130
_TLS = 2026


def _account(node: NodeAnswers) -> str:
    """Return the account for a GRANT: as the server knows it, or as this process logs in."""
    user, _, host = node.account.rpartition("@")
    return f"'{user}'@'{host}'" if user else f"'{node.user}'@'%'"


def _cannot_be_asked(node: NodeAnswers) -> Iterator[Finding]:
    if node.answered:
        return
    schema = f"`{node.database}`"
    if node.lacks_password:
        yield Finding(
            "password", node.name, f"there is no password for {node.address}: {node.error}",
            "call the callable from a shell and mend what it raises; may this account and this machine read "
            "the secret?",
        )  # fmt: skip
    elif node.number in _ACCESS_DENIED:
        yield Finding(
            "login", node.name, f"the login fails: {node.error}",
            f"check user and password, or on the primary:\n"
            f"CREATE USER {_account(node)} IDENTIFIED BY '…';\n"
            f"GRANT ALL PRIVILEGES ON {schema}.* TO {_account(node)};",
        )  # fmt: skip
    elif node.number == _NO_SCHEMA_RIGHT:
        yield Finding(
            "schema", node.name, f"the user may not use the schema {node.database}: {node.error}",
            f"on the primary: GRANT ALL PRIVILEGES ON {schema}.* TO {_account(node)};",
        )  # fmt: skip
    elif node.number == _NO_SCHEMA:
        remedy = f"CREATE DATABASE {schema};"
        if not node.is_primary:
            remedy = "let it replicate this schema: look at replicate_do_db, replicate_ignore_db and the like"
        yield Finding("schema", node.name, f"there is no schema {node.database}: {node.error}", remedy)
    elif node.number == _HOST_NOT_ALLOWED:
        yield Finding(
            "login", node.name, f"no account may log in from this host: {node.error}",
            f"on the primary: CREATE USER '{node.user}'@'%' IDENTIFIED BY '…';",
        )  # fmt: skip
    elif node.number == _TLS:
        yield Finding(
            "tls", node.name, f"TLS fails: {node.error}",
            "pass ssl= with the authority that signed the server's certificate, or mend ssl_cert and ssl_key "
            "in the server's my.cnf",
        )  # fmt: skip
    else:
        yield Finding(
            "unreachable", node.name, f"it cannot be asked: {node.error}",
            f"is {node.address} right, does a server listen there, and is the way to it open?",
        )  # fmt: skip


# One node

_SEES_REPLICATION = re.compile(
    r"\b(ALL PRIVILEGES|REPLICATION CLIENT|SLAVE MONITOR|REPLICA MONITOR|BINLOG MONITOR|SUPER)\b"
)
_WRITES_ANYWAY = re.compile(r"\b(ALL PRIVILEGES|SUPER|READ[_ ]ONLY ADMIN|CONNECTION_ADMIN)\b")
# From this release on, MariaDB's SUPER no longer lets a user write on a read-only server.
_SUPER_IS_HARMLESS = (10, 11)
_ON_EVERYTHING = " ON *.* "


def _global_grants(node: NodeAnswers) -> str:
    return "\n".join(grant for grant in node.grants if _ON_EVERYTHING in grant)


def _is_primary(node: NodeAnswers) -> bool:
    """Return whether it is the primary, even by another address."""
    return node.is_primary or (node.fitness is not None and node.fitness.role == "primary")


def _keeps_gtids(node: NodeAnswers) -> bool:
    if node.is_mysql:
        return node.variables.get("gtid_mode", "ON") == "ON"
    return node.variables.get("log_bin", "ON") == "ON"


def _without_gtids(node: NodeAnswers) -> Iterator[Finding]:
    if not node.variables or _keeps_gtids(node):
        return
    if node.is_mysql:
        yield Finding(
            "gtids", node.name,
            f"gtid_mode is {node.variables['gtid_mode']}, so nobody knows what a replica has applied: reads "
            "stay on the primary after each write",
            "in my.cnf of every node:\n[mysqld]\ngtid_mode = ON\nenforce_gtid_consistency = ON",
        )  # fmt: skip
    elif node.is_primary:
        yield Finding(
            "gtids", node.name,
            "log_bin is OFF, so it keeps no GTIDs, and nothing can replicate from it",
            "in my.cnf:\n[mysqld]\nlog_bin\nserver_id = 1",
        )  # fmt: skip


def _without_trackers(node: NodeAnswers) -> Iterator[Finding]:
    if node.answered and not node.tracks:
        yield Finding(
            "trackers", node.name,
            "it does not report changes of the session, so each write is followed by a question; is there a "
            "proxy in between?",
            "connect to the server itself, or turn off connection sharing in the proxy",
        )  # fmt: skip


def _hidden_replication(node: NodeAnswers) -> Iterator[Finding]:
    if node.facts is None or node.facts.channels is not None or node.facts.member:
        return
    if node.grants and _SEES_REPLICATION.search(_global_grants(node)):
        return  # it was not a privilege that was missing
    privilege = "REPLICATION CLIENT" if node.is_mysql else "SLAVE MONITOR"
    yield Finding(
        "replication-hidden", node.name,
        "this user may not see whom the node follows and whether it is stopped",
        f"on the primary: GRANT {privilege} ON *.* TO {_account(node)};\n"
        "(on the node itself, with SET sql_log_bin = 0, if nothing arrives there)",
    )  # fmt: skip


def _could_write(node: NodeAnswers) -> Iterator[Finding]:
    if _is_primary(node) or not node.grants:
        return
    found = list(dict.fromkeys(_WRITES_ANYWAY.findall(_global_grants(node))))
    if "SUPER" in found and not node.is_mysql and _release(node.version) >= _SUPER_IS_HARMLESS:
        found.remove("SUPER")
    # MySQL refuses everybody's writes with super_read_only.
    if not found or node.variables.get("super_read_only") == "ON":
        return
    privilege = ", ".join(found)
    revoke = f"REVOKE {privilege} ON *.* FROM {_account(node)};"
    if privilege == "ALL PRIVILEGES":
        revoke = (
            f"REVOKE ALL PRIVILEGES ON *.* FROM {_account(node)};\n"
            f"GRANT ALL PRIVILEGES ON `{node.database}`.* TO {_account(node)};"
        )
    remedy = f"on the primary:\n{revoke}"
    if node.is_mysql:
        remedy += "\nor in the replica's my.cnf:\n[mysqld]\nsuper_read_only = ON"
    yield Finding(
        "writes-on-replica", node.name,
        f"this user has {privilege}, so read_only does not keep its writes off this replica",
        remedy,
    )  # fmt: skip


def _not_read_only(node: NodeAnswers) -> Iterator[Finding]:
    told = node.facts
    if _is_primary(node) or told is None or told.read_only or told.member:
        return
    line = "super_read_only = ON" if node.is_mysql else "read_only = ON"
    yield Finding(
        "read-only", node.name,
        "read_only is OFF: a write that goes there by mistake is not refused",
        f"SET GLOBAL {line};\nand in its my.cnf:\n[mysqld]\n{line}",
    )  # fmt: skip


def _wrong_primary(node: NodeAnswers) -> Iterator[Finding]:
    told = node.facts
    if not node.is_primary or told is None or told.member or not told.read_only:
        return
    sources = ", ".join(dict.fromkeys(str(channel.source) for channel in told.channels or ()))
    if sources:
        yield Finding(
            "host-is-replica", node.name, f"`host` leads to a replica of {sources}, which takes no writes",
            f"point `host` to {sources}",
        )  # fmt: skip
    else:
        yield Finding(
            "primary-read-only", node.name, "read_only is ON: it takes no writes",
            "point `host` to the node that takes writes; if this is it: SET GLOBAL read_only = OFF;",
        )  # fmt: skip


_TWIN = re.compile(r"is the same server as (.*?), which is listed too")


def _verdict(node: NodeAnswers) -> Iterator[Finding]:
    """The library's own verdict: why the node gets no reads, or what is odd about it."""
    told, fitness = node.facts, node.fitness
    if fitness is None or told is None or node.is_primary:
        return
    if fitness.role == "primary":
        yield Finding(
            "same-server", node.name, "it is the primary itself, under another address",
            "remove it from replicas, or list the primary under its own address if it shall serve reads",
        )  # fmt: skip
        return
    twin = _TWIN.search(fitness.remark)
    if twin:
        yield Finding(
            "same-server", node.name, f"it is the same server as {twin[1]}, and gets the reads of both",
            "list each server once",
        )  # fmt: skip
    if told.dialect.NAME == "mysql":
        change, start = (
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '…', SOURCE_AUTO_POSITION = 1;",
            "START REPLICA;",
        )
    else:
        change, start = "CHANGE MASTER TO MASTER_HOST = '…', MASTER_USE_GTID = slave_pos;", "START SLAVE;"
    if fitness.role == "detached":
        yield Finding(
            "not-a-replica", node.name, f"it is no replica of the primary: it {fitness.cause}",
            f"let it follow the primary:\n{change}\n{start}\nor remove it from replicas",
        )  # fmt: skip
    elif "replication is stopped" in fitness.cause:
        remedy = f"mend the cause that it names, then: {start}" if ":" in fitness.cause else start
        yield Finding("replication-stopped", node.name, fitness.cause, remedy)
    elif fitness.state == "unfit":
        yield Finding("unfit", node.name, fitness.cause, "SET GLOBAL offline_mode = OFF;")
    elif fitness.state == "lagging":
        show = "SHOW REPLICA STATUS" if node.is_mysql else "SHOW SLAVE STATUS"
        stuck = f"it may also be stopped, blocked or delayed: as an administrator there, {show};\n"
        yield Finding(
            "lagging", node.name, fitness.cause,
            ("" if told.channels else stuck) + "look for long statements and missing indexes on the replica, "
            "let it apply in parallel, or raise max_lag",
        )  # fmt: skip
    for words in fitness.remark.split("; "):
        if words.startswith("has transactions of its own"):
            yield Finding(
                "errant-transactions", node.name, f"it {words}",
                "compare its rows with the primary's, and build it anew from a backup of the primary",
            )  # fmt: skip


def _without_auto_position(node: NodeAnswers) -> Iterator[Finding]:
    if node.is_primary or node.facts is None:
        return
    for row in node.channels or ():
        words = {str(name).lower(): str(value) for name, value in row.items()}
        if words.get("using_gtid") == "No":
            yield Finding(
                "replicates-without-gtids", node.name,
                "it replicates by file and offset, so its position in GTIDs never moves, and reads that must "
                "see a write do not use it",
                "STOP SLAVE;\nCHANGE MASTER TO MASTER_USE_GTID = slave_pos;\nSTART SLAVE;",
            )  # fmt: skip
        elif words.get("auto_position") == "0" and _keeps_gtids(node):
            yield Finding(
                "replicates-without-gtids", node.name,
                "it replicates by file and offset (SOURCE_AUTO_POSITION=0), which a failover can get wrong",
                "STOP REPLICA;\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 1;\nSTART REPLICA;",
            )  # fmt: skip


_LOCAL = ("", "localhost", "::1")


def _without_tls(node: NodeAnswers) -> Iterator[Finding]:
    local = node.host in _LOCAL or node.host.startswith("127.") or node.address.startswith("/")
    if node.status.get("ssl_cipher") == "" and not local:
        yield Finding(
            "tls", node.name, "the connection is not encrypted",
            "pass ssl={'ca': '…'} to the database, and on the primary:\n"
            f"ALTER USER {_account(node)} REQUIRE SSL;",
        )  # fmt: skip


# A replica against the primary

_RESULTS_DIFFER = {
    "sql_mode": "sql_mode = '{}'",
    "time_zone": "default_time_zone = '{}'",
    "system_time_zone": "",
    "transaction_isolation": "transaction_isolation = {}",
    "tx_isolation": "transaction_isolation = {}",
    "collation_connection": "",
    "collation_database": "",
    "collation_server": "collation_server = {}",
}


def _settings_differ(node: NodeAnswers, primary: NodeAnswers) -> Iterator[Finding]:
    uses_system_zone = "SYSTEM" in (node.session.get("time_zone"), primary.session.get("time_zone"))
    for name, line in _RESULTS_DIFFER.items():
        mine, theirs = node.session.get(name), primary.session.get(name)
        if mine is None or theirs is None or mine == theirs:
            continue
        if name == "system_time_zone" and not uses_system_zone:
            continue
        remedy = f"in its my.cnf:\n[mysqld]\n{line.format(theirs)}"
        if name == "system_time_zone":
            remedy = "set one zone on every node, in my.cnf:\n[mysqld]\ndefault_time_zone = '+00:00'"
        elif name == "collation_database":
            remedy = f"on the primary: ALTER DATABASE `{node.database}` COLLATE {theirs};"
        elif not line:
            remedy = "pass charset and collation to the database"
        yield Finding(
            "settings-differ", node.name,
            f"{name} is {mine!r} here and {theirs!r} on the primary, so a SELECT may return other rows",
            remedy,
        )  # fmt: skip


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _versions_differ(node: NodeAnswers, primary: NodeAnswers) -> Iterator[Finding]:
    if node.is_mysql != primary.is_mysql:
        yield Finding(
            "versions", node.name, f"it runs {node.version}, and the primary {primary.version}",
            "use one kind of server: their GTIDs are not comparable",
        )  # fmt: skip
    elif _release(node.version) < _release(primary.version):
        yield Finding(
            "versions", node.name, f"it runs {node.version}, older than the primary's {primary.version}",
            "upgrade replicas before their primary",
        )  # fmt: skip


# Everything


def _undiscovered(found: Survey) -> Iterator[Finding]:
    yield Finding(
        "discovery", found.primary.name,
        f"the callable given as replicas named no nodes: {found.undiscovered}",
        "mend what it asks; until it has answered, the primary serves every read",
    )  # fmt: skip


def _no_replicas(found: Survey) -> Iterator[Finding]:
    if not found.replicas:
        yield Finding(
            "no-replicas", found.primary.name, "no replica is configured, so the primary serves every read",
            'pass replicas=[{"host": "…"}] to the database',
        )  # fmt: skip


def _too_many_connections(node: NodeAnswers, pool: int | None, processes: int) -> Iterator[Finding]:
    allowed = node.variables.get("max_connections")
    if pool is None or allowed is None:
        return
    pools = 2 if node.is_primary else 1  # the primary has one for writing and one for reading
    wanted = processes * (pools * pool + 1)
    if wanted > int(allowed):
        yield Finding(
            "max-connections", node.name,
            f"{processes} processes may open {wanted} connections, and max_connections is {allowed}",
            f"use smaller pools, or in its my.cnf:\n[mysqld]\nmax_connections = {wanted + wanted // 2}",
        )  # fmt: skip


_BY_NODE: tuple[Callable[[NodeAnswers], Iterator[Finding]], ...] = (
    _cannot_be_asked,
    _wrong_primary,
    _verdict,
    _without_gtids,
    _without_auto_position,
    _not_read_only,
    _hidden_replication,
    _could_write,
    _without_trackers,
    _without_tls,
)
_AGAINST_PRIMARY: tuple[Callable[[NodeAnswers, NodeAnswers], Iterator[Finding]], ...] = (
    _versions_differ,
    _settings_differ,
)
