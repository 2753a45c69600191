"""What name servers and database servers answer, as lists of replicas. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..nodes.spec import host_and_port

Found = list[dict[str, object]]
"""Replicas as the argument ``replicas`` takes them."""

Row = Mapping[str, object]
"""A row of a server's answer, by column name in lower case."""

_LARGEST_WEIGHT = 100


class ServiceRecord(NamedTuple):
    """An SRV record.

    Attributes:
        priority: records with a higher number are spares.
        weight: its share of the work, from 0 to 65535.
        port: the server's port.
        host: the server's name.
    """

    priority: int
    weight: int
    port: int
    host: str


def in_lower_case(rows: Iterable[Mapping[str, object]]) -> list[Row]:
    """Return rows with the names of their columns in lower case, which differs between releases."""
    return [{name.lower(): value for name, value in row.items()} for row in rows]


def addresses(found: Iterable[str], port: int) -> Found:
    """Return each address once, in a fixed order."""
    return [{"host": host, "port": port} for host in sorted(set(found))]


def services(records: Sequence[ServiceRecord]) -> Found:
    """Return the servers of the records with the lowest priority, with weights of at most 100."""
    first = min((record.priority for record in records), default=0)
    weights: dict[tuple[str, int], int] = {}
    for record in dict.fromkeys(records):
        if record.priority == first and record.host != ".":
            # The case of a name may change from answer to answer, and a server may have several records.
            server = record.host.rstrip(".").lower(), record.port
            weights[server] = weights.get(server, 0) + record.weight
    largest = max(weights.values(), default=0)
    return [
        {"host": host, "port": port, "weight": _weight(weight, largest)}
        for (host, port), weight in sorted(weights.items())
    ]


def _weight(weight: int, largest: int) -> int:
    # In DNS, 0 means a very small share. Here it would mean none at all.
    return max(1, round(weight * min(largest, _LARGEST_WEIGHT) / largest)) if largest else 1


def reported_replicas(rows: Sequence[Row]) -> Found:
    """Return the replicas that are connected to a primary.

    Parameters:
        rows: the answer to ``SHOW REPLICAS`` or ``SHOW SLAVE HOSTS``.

    Raises:
        LookupError: replicas are connected, but none of them reports its host.
    """
    # Programs that read the binary log, such as mysqlbinlog, are in the answer too, without a host.
    # A replica that was set up anew is in it twice until the primary notices that the old one is gone.
    servers = dict.fromkeys((str(row["host"]), _number(row["port"])) for row in rows if row["host"])
    found: Found = [{"host": host, "port": port} for host, port in servers]
    if rows and not found:
        silent = ", ".join(str(row["server_id"]) for row in rows)
        raise LookupError(
            f"the replica with server_id {silent} does not tell the primary its address: set report_host in "
            "its configuration"
        )
    return found


def group_members(rows: Sequence[Row]) -> Found:
    """Return the members of a group that take part, without the one that takes the writes.

    Parameters:
        rows: of ``performance_schema.replication_group_members``, with ``me``: the ``server_uuid`` of the
            member that was asked. Where all members take writes, that one is left out.

    Raises:
        LookupError: the member that was asked does not know who takes part, because it does not itself, or
            because it has lost sight of the majority.
    """
    online = [row for row in rows if row["member_state"] == "ONLINE"]
    if not any(row["member_id"] == row["me"] for row in online):
        raise LookupError("the server that was asked is no ONLINE member of a replication group")
    # The majority, which this side cannot reach, may have elected another primary.
    if 2 * sum(row["member_state"] == "UNREACHABLE" for row in rows) >= len(rows):
        raise LookupError("the server that was asked cannot reach the majority of its replication group")
    secondary = [row for row in online if row["member_role"] == "SECONDARY"]
    if not secondary:
        secondary = [row for row in online if row["member_id"] != row["me"]]
    return [{"host": row["member_host"], "port": _number(row["member_port"])} for row in secondary]


def galera_members(rows: Sequence[Row]) -> Found:
    """Return the members of a Galera cluster, without the one that was asked.

    Parameters:
        rows: the status variables ``wsrep_*``.

    Raises:
        LookupError: the server is no member of the part that has the majority, or a member does not know its
            own address.
    """
    status = {str(row["variable_name"]).lower(): str(row["value"]) for row in rows}
    if status.get("wsrep_cluster_status") != "Primary":
        raise LookupError("the server that was asked is no member of the Galera cluster's primary component")
    members = [each.strip() for each in status.get("wsrep_incoming_addresses", "").split(",")]
    others = [each for place, each in enumerate(members) if str(place) != status.get("wsrep_local_index")]
    found: Found = []
    for each in others:
        if not each:
            continue  # an arbitrator (garbd), which has no data
        host, port = host_and_port(each)
        if host in ("AUTO", "0.0.0.0", "::"):  # texts of the server's
            raise LookupError(
                "a member of the Galera cluster does not tell its address: set "
                "wsrep_node_incoming_address there"
            )
        found.append({"host": host.strip("[]"), "port": port or 3306})
    return found


def aurora_instances(rows: Sequence[Row], domain: str) -> Found:
    """Return the readers of an Aurora cluster.

    Parameters:
        rows: ``server_id`` and ``session_id`` of ``information_schema.replica_host_status``.
        domain: what follows the name of an instance in its address.
    """
    readers = sorted(str(row["server_id"]) for row in rows if row["session_id"] != "MASTER_SESSION_ID")
    return [{"host": f"{name}.{domain}", "name": name} for name in readers]


def aurora_domain(host: str) -> str:
    """Return what follows the name of each instance in its address.

    Parameters:
        host: the address of the cluster, such as ``app.cluster-abc.eu-west-1.rds.amazonaws.com``, or of an
            instance.

    Raises:
        LookupError: the host is no address of Aurora.
    """
    _, _, domain = host.partition(".")
    for prefix in ("cluster-ro-", "cluster-custom-", "cluster-"):
        domain = domain.removeprefix(prefix)
    if ".rds.amazonaws.com" not in f".{domain}":
        raise LookupError(f"{host} is no address of Aurora: give aurora() the domain of the instances")
    return domain


def _number(value: object) -> int:
    return int(str(value))
