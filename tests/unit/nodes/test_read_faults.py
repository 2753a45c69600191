"""When a node that cannot read its own data leaves the rotation, and for how long."""

from __future__ import annotations

from peewee_replicas.nodes.read_faults import FIRST_ABSENCE, FORGOTTEN_AFTER, LONGEST_ABSENCE, ReadFaults


def test_once_may_happen_and_each_time_after_that_costs_more() -> None:
    faults = ReadFaults()
    now, absences = 0.0, []
    for _ in range(8):
        absences.append(faults.note(now))
        now += LONGEST_ABSENCE
    assert absences == [None, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0]
    assert FIRST_ABSENCE == 30.0


def test_a_fault_of_long_ago_is_forgotten() -> None:
    faults = ReadFaults()
    assert faults.note(0.0) is None
    assert faults.note(FORGOTTEN_AFTER + 1) is None
    assert faults.note(FORGOTTEN_AFTER + 2) == FIRST_ABSENCE


def test_it_is_not_forgotten_while_the_node_stays_away() -> None:
    assert FORGOTTEN_AFTER > LONGEST_ABSENCE
