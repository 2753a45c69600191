"""What was tried with which topology, and which of them the nodes of a database show. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from .answers import NodeAnswers, Survey

Result = Literal["works", "works with a limit", "is refused", "not run"]


class Topology(NamedTuple):
    """One way to set up servers.

    Attributes:
        name: what it is called.
        result: whether the library works with it.
        words: the limit, or the reason; ``""`` if there is none.
        tests: the tests that ran it, below ``tests/``.
        shown_by: whether the nodes' answers show it; None: answers do not tell.
    """

    name: str
    result: Result
    words: str
    tests: tuple[str, ...]
    shown_by: Callable[[Survey], bool] | None = None


def any_node(test: Callable[[NodeAnswers], bool]) -> Callable[[Survey], bool]:
    """Return a test of a survey that holds if it holds for any node that answered."""
    return lambda found: any(test(node) for node in found.nodes if node.answered)


def any_replica(test: Callable[[NodeAnswers], bool]) -> Callable[[Survey], bool]:
    """Return a test of a survey that holds if it holds for any replica that answered."""
    return lambda found: any(test(node) for node in found.nodes if node.answered and not node.is_primary)


def _delayed(node: NodeAnswers) -> bool:
    return any(str(row.get("SQL_Delay") or "0") != "0" for row in node.channels or ())


def _several_sources(node: NodeAnswers) -> bool:
    return len(node.channels or ()) > 1


def _several_domains(node: NodeAnswers) -> bool:
    told = node.facts
    return not node.is_mysql and told is not None and told.sample is not None and "," in told.sample.text()


def _group(node: NodeAnswers) -> bool:
    return node.facts is not None and bool(node.facts.group_role)


def _galera(node: NodeAnswers) -> bool:
    return node.facts is not None and node.facts.galera


def _without_gtids(node: NodeAnswers) -> bool:
    return node.variables.get("gtid_mode", "ON") != "ON" or (
        node.is_primary and not node.is_mysql and node.variables.get("log_bin") == "OFF"
    )


def _without_binary_log(node: NodeAnswers) -> bool:
    return node.variables.get("log_bin") == "OFF"


def _shared_storage(node: NodeAnswers) -> bool:
    return node.facts is not None and node.facts.variables.get("innodb_read_only") == "ON"


_FOLLOW = "servers/nodes/test_whom_replicas_follow.py"
_HOSTED = "servers/nodes/test_hosted_set_ups.py"
_ROUTER = "servers/connections/test_mysql_router.py"
_WITHOUT_GTIDS = "after a write, reads stay on the primary for `sticky_seconds`"

TOPOLOGIES = (
    Topology("chained replicas", "works", "", (f"{_FOLLOW}::test_chains",)),
    Topology(
        "delayed replicas", "works with a limit",
        "a replica serves reads only while its delay is below `max_lag`",
        (
            "servers/nodes/test_prober.py::test_a_delayed_replica_is_as_late_as_it_is",
            "servers/nodes/test_prober.py::test_a_lagging_replica_is_left_and_comes_back",
        ),
        any_replica(_delayed),
    ),
    Topology(
        "semi-synchronous replication", "works", "",
        (f"{_HOSTED}::test_semi_synchronous_replication_changes_nothing",),
    ),
    Topology(
        "replicas of several sources", "works with a limit",
        "the user must be allowed to see the channels; on MariaDB, each source needs a `gtid_domain_id` of "
        "its own",
        (
            f"{_FOLLOW}::test_a_channel_that_has_nothing_to_do_with_the_primary_harms_nobody",
            f"{_FOLLOW}::test_a_replica_whose_sources_share_a_gtid_domain_serves_nothing",
        ),
        any_replica(_several_sources),
    ),
    Topology(
        "replicas of another primary", "is refused", "they are `unfit`, and the cause names whom they follow",
        (f"{_FOLLOW}::test_a_replica_of_another_primary_serves_nothing",),
        any_replica(lambda node: node.fitness is not None and node.fitness.role == "detached"),
    ),
    Topology(
        "several GTID domains", "works", "",
        ("servers/consistency/test_several_domains.py::test_what_was_written_in_each_domain_is_seen",),
        any_node(_several_domains),
    ),
    Topology(
        "MySQL group replication, one primary", "works with a limit",
        "`host` must lead to the group's primary; after an election only `follow_primary=True` finds the new "
        "one; the user needs `SELECT` on `performance_schema.replication_group_members`",
        (
            "servers/nodes/test_group_replication.py::test_secondaries_serve_reads_until_they_leave_the_group",
            "servers/nodes/test_group_replication.py::test_writes_follow_the_primary_that_the_group_elects",
        ),
        any_node(_group),
    ),
    Topology("MySQL group replication, several primaries", "not run", "", ()),
    Topology(
        "Galera", "works with a limit",
        "each read on a member waits for the cluster (`wsrep_sync_wait`), at most "
        "`repl.causal_read_timeout`; lag is known only from a `heartbeat_table`",
        (
            "servers/consistency/test_galera.py::test_reads_on_members_see_what_was_written",
            "servers/consistency/test_galera.py::test_show_waits_and_dirty_reads_are_off",
        ),
        any_node(_galera),
    ),
    Topology(
        "servers without GTIDs", "works with a limit", _WITHOUT_GTIDS,
        (
            "servers/consistency/test_without_gtids.py"
            "::test_without_gtids_reads_stay_on_the_primary_for_a_while",
        ),
        any_node(_without_gtids),
    ),
    Topology(
        "replicas without a binary log, as on Amazon RDS without backups", "works",
        "plain servers with these settings; RDS itself was not run",
        (f"{_HOSTED}::test_a_replica_without_a_binary_log_shows_what_was_written",),
        any_replica(_without_binary_log),
    ),
    Topology(
        "Amazon RDS for MySQL with `gtid_mode=OFF_PERMISSIVE`", "works with a limit",
        f"{_WITHOUT_GTIDS}; plain servers with these settings, RDS itself was not run",
        (f"{_HOSTED}::test_without_gtids_on_rds_reads_stay_on_the_primary_and_come_back",),
    ),
    Topology(
        "readers of Amazon Aurora (`innodb_read_only`)", "works with a limit",
        f"{_WITHOUT_GTIDS}; lag is known only from a `heartbeat_table`; a plain server with these settings, "
        "Aurora itself was not run",
        (
            f"{_HOSTED}::test_a_reader_like_those_of_aurora_serves_reads",
            "unit/discover/test_servers_asked.py::test_the_primary_is_asked_over_a_connection_that_is_closed",
        ),
        any_replica(_shared_storage),
    ),
    Topology(
        "a TCP balancer (HAProxy) before replicas or the primary", "works with a limit",
        "the prober sees the one server that its connection leads to, so the balancer's checks must take "
        "servers out; scopes that use several connections may go backwards",
        (
            "servers/nodes/test_haproxy.py"
            "::test_no_read_is_stale_with_a_late_replica_behind_the_balancer",
            "servers/nodes/test_haproxy.py::test_restarts_behind_the_balancer_lose_nothing",
            "servers/consistency/test_scopes_that_reconnect.py::test_a_late_server_does_not_serve_it",
        ),
    ),
    Topology(
        "an address of the primary (DNS, HAProxy) that a failover moves", "works with a limit",
        "an old primary that lives has to be read-only before, because open connections stay there",
        (
            "servers/nodes/test_follow_primary.py"
            "::test_without_it_writes_follow_an_address_that_is_moved",
            "servers/nodes/test_follow_primary.py"
            "::test_what_waits_at_a_hung_primary_ends_when_its_address_leads_elsewhere",
        ),
    ),
    Topology(
        "a DNS name of several replicas", "works", "with `discover.dns()`, each address is a node",
        ("servers/nodes/test_names_that_change.py::test_replicas_follow_the_answers_of_a_name_server",),
    ),
    Topology(
        "MySQL Router without connection sharing", "works", "",
        (f"{_ROUTER}::test_without_sharing_nothing_differs",),
    ),
    Topology(
        "MySQL Router with connection sharing", "works with a limit",
        "each write is followed by a question before the next read from a replica; what a procedure leaves "
        "in its session is not noticed",
        (
            f"{_ROUTER}::test_reads_see_writes_and_replicas_serve",
            f"{_ROUTER}::test_no_read_is_stale_while_the_replica_is_late",
        ),
        any_node(lambda node: not node.tracks),
    ),
    Topology("ProxySQL", "not run", "no package of it could be had", ()),
    Topology(
        "Vitess (`app@replica` on one host)", "is refused",
        "a replica needs an address of its own, as positions are known by address; Vitess itself was not run",
        ("unit/databases/test_arguments.py::test_a_replica_at_the_primarys_address_has_its_database",),
    ),
)  # fmt: skip
"""Every topology that was tried, or asked for."""

COLUMNS = ("topology", "here", "result")


def rows(found: Survey) -> list[dict[str, object]]:
    """Return one row for each topology, with what the nodes show.

    Each row has ``topology``, ``result``, ``words``, ``tests``, and ``here``: whether the nodes' answers show
    it, or None if answers do not tell.
    """
    return [
        {
            "topology": one.name,
            "here": None if one.shown_by is None else one.shown_by(found),
            "result": one.result,
            "words": one.words,
            "tests": one.tests,
        }
        for one in TOPOLOGIES
    ]


def cells(row: dict[str, object]) -> list[str]:
    """Return a row as the table shows it."""
    here = {None: "?", True: "yes", False: "no"}[row["here"]]  # type: ignore[index]  # as `rows` made it
    said = f"{row['result']}: {row['words']}" if row["words"] else str(row["result"])
    return [str(row["topology"]).replace("`", ""), here, said.replace("`", "")]


def page_table() -> str:
    """Return the table of the documentation, in Markdown."""
    lines = ["| topology | result | limit or reason | tests |", "| --- | --- | --- | --- |"]
    for one in TOPOLOGIES:
        tests = ", ".join(f"`{test.partition('::')[2]}`" for test in one.tests)
        lines.append(f"| {one.name} | {one.result} | {one.words or '–'} | {tests or '–'} |")
    return "\n".join(lines)
