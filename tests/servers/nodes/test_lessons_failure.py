"""Bugs that other read/write splitters had when nodes failed: which tests hold each of them here."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from support.clusters import own_cluster
from support.load.faults import FAULTS

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.nodes import breaker as health
from peewee_replicas.nodes import prober

TESTS = Path(__file__).parents[2]

HELD_BY: dict[int, tuple[str, ...]] = {
    # A retry replays half a transaction, or a write whose acknowledgement was lost.
    20: (
        "test_a_write_is_never_retried",
        "test_a_lost_acknowledgement_is_an_unknown_outcome",
        "test_a_write_lost_inside_a_transaction_is_rolled_back_and_known_to_be",
        "test_no_read_fails_and_no_write_is_doubled_while_replicas_fail",
    ),
    # A dead replica stays in rotation, or each request pays for it.
    21: (
        "test_a_replica_that_refuses_connections_from_the_start_is_passed_over",
        "test_a_replica_that_is_not_there_is_ejected_at_once",
        "test_a_hung_replica_costs_many_threads_one_timeout",
        "test_a_hung_replica_costs_one_bounded_wait_and_no_read",
        "test_a_hung_primary_does_not_hold_up_reads_that_would_ask_it",
    ),
    # An ejected replica never returns, or the fallback never ends.
    22: (
        "test_a_node_that_is_back_is_used_again",
        "test_the_fallback_ends_when_a_replica_is_back",
        "test_a_lagging_replica_is_left_and_comes_back",
        "test_no_read_fails_and_no_write_is_doubled_while_replicas_fail",
    ),
    # Everyone probes at once when the pause ends.
    23: (
        "test_exactly_one_caller_tries_an_ejected_node",
        "test_of_many_threads_exactly_one_may_try",
        "test_a_hung_replica_costs_many_threads_one_timeout",
    ),
    # SQL errors, deadlocks and lock waits eject nodes.
    24: (
        "test_sql_errors_eject_nobody",
        "test_a_deadlock_is_raised_once",
        "test_a_lock_wait_that_takes_too_long_is_raised_once",
        "test_a_query_that_is_killed_is_the_statements_affair",
        "test_a_statement_that_takes_too_long_is_the_statements_affair",
    ),
    # All replicas gone: a crash with no cause in the message.
    25: (
        "test_all_replicas_down_and_the_primary_serves",
        "test_all_replicas_down_is_an_error_where_the_primary_is_not_to_be_read",
        "test_nothing_answers_and_the_error_names_every_node",
        "test_every_node_that_was_tried_is_named_with_its_reason",
    ),
    # A dead primary breaks pure reads, or a pure read opens a connection to it.
    26: (
        "test_reads_need_no_primary",
        "test_reading_never_opens_the_primary",
        "test_reads_outlive_the_primary_and_writes_come_back_with_it",
        "test_a_hung_primary_does_not_hold_up_reads_that_would_ask_it",
    ),
    # A demoted primary goes on being used.
    27: (
        "test_a_primary_that_is_read_only_now_is_told_as_such",
        "test_after_a_failover_that_cuts_connections_the_next_statement_is_on_the_new_primary",
        "test_after_a_failover_that_leaves_connections_open_each_thread_learns_it_once",
        "test_roles",
    ),
    # Forked workers share sockets; a probe uses a connection of another thread.
    28: (
        "test_parent_and_child_both_go_on",
        "test_preloaded_workers_lose_no_read_and_leave_no_socket",
        "test_generations_of_workers_lose_no_read_and_leave_no_socket",
        "test_reads_and_probes_share_no_connection",
        "test_a_fork_meets_no_thread_and_both_go_on",
    ),
    # A timeout or a cancel in mid-query leaves a desynchronised connection in use.
    29: (
        "test_a_read_that_hit_its_timeout_leaves_no_answer_behind",
        "test_an_interrupted_read_leaves_no_answer_behind",
        "test_interrupts_at_any_moment_leave_no_answer_behind",
        "test_a_statement_broken_off_before_its_answer_is_read_leaves_no_answer_behind",
        "test_greenlets_that_are_killed_leave_no_answer_behind",
    ),
    # A connection returned to the wrong pool, or leaked by an exception or an unfinished generator.
    30: (
        "test_connections_return_to_the_pool_they_came_from",
        "test_an_unfinished_generator_leaks_nothing",
        "test_rows_that_nobody_read_to_the_end_are_not_the_next_reads",
        "test_threads_that_come_and_go_leave_no_connection_on_any_server",
        "test_databases_that_come_and_go_leave_nothing",
    ),
    # Discovery replaces the node list with nothing.
    31: (
        "test_lesson_31_a_list_that_cannot_work_or_is_empty_changes_nothing",
        "test_changing_the_list_under_8_threads_loses_no_read_and_no_connection",
    ),
}


def test_each_lesson_is_held_by_tests_that_exist() -> None:
    known = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert sorted(HELD_BY) == list(range(20, 32))
    assert {name for names in HELD_BY.values() for name in names} - known == set()
    assert all(HELD_BY.values())


@pytest.mark.once
@pytest.mark.parametrize("probe_interval", [0.5, None])
def test_a_hung_primary_does_not_hold_up_reads_that_would_ask_it(
    server: str, probe_interval: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(health, name, 600.0)  # no read finds out whether it is back
    monkeypatch.setattr(prober, "LONGEST_PAUSE", 600.0)
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(probe_interval=probe_interval, connect_timeout=2)
        database.execute_sql("CREATE TABLE item (id INT PRIMARY KEY, n INT)")
        database.execute_sql("INSERT INTO item VALUES (1, 1)")
        cluster.sync()
        read = "SELECT n FROM item WHERE id = 1"
        assert database.execute_sql(read).fetchone() == (1,)
        database.execute_sql("UPDATE item SET n = 1 WHERE id = 1")  # tells no position: to be asked for
        with FAULTS["paused"](cluster, cluster.primary):
            asked = database.stats()["asked"]
            for _ in range(4):
                assert database.execute_sql(read).fetchone() == (1,)
            stats = database.stats()
        assert stats["asked"] - asked == stats["unasked"] == 1  # and not each of them pays
        database.close()


@pytest.mark.once
@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_what_is_said_of_a_busy_node_does_not_grow(server: str, cls: Any, caplog: Any) -> None:
    with own_cluster(server, replicas=2) as cluster:
        database = cluster.database(cls)
        database.execute_sql("SELECT 1")
        with FAULTS["refusing"](cluster, cluster.replicas[0]):
            for _ in range(60):
                database.close()
                assert database.execute_sql("SELECT 1").fetchone() == (1,)
            said = [record.getMessage() for record in caplog.records]
            assert any("1040" in text for text in said)
            assert max(map(len, said)) < 600
            assert sum("is busy" in text for text in said) == 1
        database.close()
