"""For how long a member that is behind its Galera cluster gets no reads."""

from __future__ import annotations

from peewee_replicas.nodes.member_delays import FIRST_ABSENCE, FORGOTTEN_AFTER, LONGEST_ABSENCE, MemberDelays

_SERVERS_DEFAULT = 30.0  # seconds; `repl.causal_read_timeout`


def test_each_wait_in_vain_keeps_it_away_for_longer() -> None:
    delays = MemberDelays()
    now, absences = 0.0, []
    for _ in range(7):
        absences.append(delays.note(now))
        now += absences[-1] + _SERVERS_DEFAULT
    assert absences == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_delay_of_long_ago_is_forgotten() -> None:
    delays = MemberDelays()
    assert delays.note(1000.0) == FIRST_ABSENCE
    assert delays.note(1001.0) == 2 * FIRST_ABSENCE
    assert delays.note(1002.0 + FORGOTTEN_AFTER) == FIRST_ABSENCE


def test_it_is_not_forgotten_while_the_next_read_waits() -> None:
    assert FORGOTTEN_AFTER > LONGEST_ABSENCE + _SERVERS_DEFAULT
