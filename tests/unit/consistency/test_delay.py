"""Whether a read waits for a replica: only where the wait is expected to be short, and never unproven.

The kind is all pairs of what a read must see (written here, reported by the primary, received with a
bookmark, of unknown age) and what is known of the replica (nothing; a short or a long delay; that it is
there; that it has stalled): `Since.origin` and the branches of `CatchUp.judge`. Here the server is replaced
by a replica that shows each write after a given delay.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency.catch_up import CatchUp, Late
from peewee_replicas.consistency.delay import LONGEST_PAUSE, WORTH_WAITING, Delay, Since
from peewee_replicas.consistency.progress import STALL_PAUSE, Progress
from peewee_replicas.positions import MariaDBPosition

DIALECT = SimpleNamespace(wait=lambda text, seconds: str(seconds), position=MariaDBPosition.parse)
ROUND_TRIP = 0.0002
LAGS = st.one_of(st.floats(0, WORTH_WAITING / 2), st.floats(WORTH_WAITING, 0.4))


class World:
    """A primary, replicas that show each write after a delay, and one program."""

    def __init__(self, *lags: float, timeout: float = 0.5) -> None:
        self.now = 100.0
        self.lags = list(lags)
        self.timeout = timeout
        self.written: list[float] = []
        self.shown = [0] * len(lags)
        self.origin: Literal["written", "asked", "received"] = "written"
        self.since: float | None = None
        self.nodes = [
            SimpleNamespace(
                progress=Progress(), is_primary=False, role="replica", number=number, name="r", title="r"
            )
            for number in range(len(lags))
        ]
        self.conns = [SimpleNamespace(server_identity=None, dialect=DIALECT, read_timeout=None) for _ in lags]
        self.turn = 0

    def seen_since(self, frame: object) -> Since | None:
        return None if self.since is None else Since(self.since, self.origin)

    def write(self) -> None:
        self.written.append(self.now)
        self.since = self.now

    def shows(self, number: int, at: float) -> int:
        """How many writes a replica shows; never fewer than before, whatever became of its delay."""
        shown = sum(written + self.lags[number] <= at for written in self.written)
        self.shown[number] = max(self.shown[number], shown)
        return self.shown[number]

    def read(self) -> tuple[int | None, float]:
        """Who serves a read, None being the primary, and how many seconds it takes."""
        began, wanted = self.now, len(self.written)
        position = MariaDBPosition.parse(f"0-1-{wanted}")
        catch_up = CatchUp(position, self.timeout, self)
        self.turn = (self.turn + 1) % len(self.nodes)
        tried: list[Any] = []
        first = self.nodes[self.turn]
        while True:
            left = tuple(node for node in self.nodes if node not in tried)
            if not left:
                break
            node: Any = catch_up.prefer(first if first in left else left[0], left, checks=not tried)
            if catch_up.known(node, self.conns[node.number].server_identity):
                self.now += ROUND_TRIP
                return self._served(node.number, wanted, began)
            if not catch_up.begin_check(node) and catch_up.judge(node) is Late.LEAVE:
                break
            if self._ask(catch_up, node, wanted):
                return self._served(node.number, wanted, began)
            if catch_up.briefly and not catch_up.has_better:
                break
            tried.append(node)
        self.now += ROUND_TRIP
        return None, self.now - began

    def _served(self, number: int, wanted: int, began: float) -> tuple[int, float]:
        assert self.shows(number, self.now) >= wanted  # proven, whatever was expected
        return number, self.now - began

    def _ask(self, catch_up: CatchUp, node: Any, wanted: int) -> bool:
        conn: Any = self.conns[node.number]
        query = catch_up.query(node, conn)
        if not query:
            return False
        seconds = float(query)
        there = self.written[wanted - 1] + self.lags[node.number] if wanted else 0.0
        if self.shows(node.number, self.now) >= wanted:
            there = 0.0
        reached = there <= self.now + seconds
        self.now = max(self.now, min(there, self.now + seconds)) + ROUND_TRIP
        answer = (0 if reached else -1, f"s{node.number}", f"0-1-{self.shows(node.number, self.now)}")
        return catch_up.learn(node, conn, answer)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*lags: float, **options: Any) -> World:
        world = World(*lags, **options)
        monkeypatch.setattr(Clock, "monotonic", lambda: world.now)
        return world

    return make


pytestmark = [pytest.mark.judges, pytest.mark.pure]


def test_a_program_whose_replicas_are_quick_reads_there_and_waits(make: Any) -> None:
    world = make(0.003, 0.004)
    for _ in range(50):
        world.write()
        assert world.read()[0] is not None


@pytest.mark.parametrize("timeout", [0.5, 0.0])
def test_one_slow_wait_and_then_the_primary_serves_what_is_too_new(make: Any, timeout: float) -> None:
    world = make(0.2, timeout=timeout)
    world.write()
    world.read()  # nothing is known yet
    world.now += 1
    took = []
    for _ in range(200):
        world.write()
        world.now += 0.001
        took.append(world.read())
        world.now += 0.01
    served = [by for by, _ in took]
    assert served.count(None) == 200
    assert max(seconds for _, seconds in took) <= WORTH_WAITING + 3 * ROUND_TRIP


def test_what_is_old_enough_is_read_from_the_replica_although_nothing_was_heard_of_it(make: Any) -> None:
    world = make(0.2)
    for _ in range(5):
        world.write()
        world.now += 0.001
        world.read()
        world.now += 0.25
        by, seconds = world.read()
        assert by == 0
        assert seconds <= WORTH_WAITING
        world.now += 0.25


def test_another_replica_that_is_quicker_serves_the_read(make: Any) -> None:
    world = make(0.2, 0.001)
    for _ in range(4):
        world.write()
        world.read()
        world.now += 1
    for _ in range(20):
        world.write()
        by, seconds = world.read()
        assert by == 1
        assert seconds <= 2 * WORTH_WAITING  # one may check the late one first
        world.now += 0.01


def test_a_late_replica_that_keeps_up_again_is_found_although_another_keeps_up_too(make: Any) -> None:
    world = make(0.2, 0.001)
    for _ in range(4):
        world.write()
        world.read()
        world.now += 1
    world.lags = [0.001, 0.001]
    began = world.now
    while world.nodes[0].progress.delay.seconds > WORTH_WAITING:
        assert world.now - began < 10 * LONGEST_PAUSE
        world.write()
        world.read()
        world.now += 0.01
    served = []
    for _ in range(20):
        world.write()
        served.append(world.read()[0])
    assert served.count(0) == served.count(1) == 10


def test_checking_a_late_replica_beside_a_quick_one_costs_little(make: Any) -> None:
    world = make(0.2, 0.001)
    world.nodes[0].progress.delay.missed(0.2, world.now)
    served, long = [], 0
    for _ in range(500):
        world.write()
        by, seconds = world.read()
        served.append(by)
        long += seconds > WORTH_WAITING
        assert seconds <= 2 * WORTH_WAITING
        world.now += 0.01
    assert set(served) == {1}  # a check in vain does not send the read to the primary
    assert 1 <= long <= 10


@given(before=st.floats(0.05, 30.0), pause=st.floats(0.001, 0.05))
def test_a_replica_that_has_become_quick_is_used_again_in_bounded_time(before: float, pause: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(0.002)
        patch.setattr(Clock, "monotonic", lambda: world.now)
        delay = world.nodes[0].progress.delay
        delay.missed(before, world.now)
        for _ in range(10):
            delay.missed(before / 2, world.now)  # checked in vain, so the pauses are as long as they get
        began = world.now
        by = None
        while by is None:
            assert world.now - began < 4 * LONGEST_PAUSE
            world.now += pause
            world.write()
            by = world.read()[0]
            if delay.seconds > WORTH_WAITING:
                by = None  # only a check


@given(
    lags=st.lists(LAGS, min_size=1, max_size=3),
    timeout=st.sampled_from([0.0, 0.05, 0.5]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "read", "read", "read", "lag", "receive", "ask", "forget"]),
            st.floats(0, 0.3),
        ),
        max_size=60,
    ),
)
def test_whatever_is_expected_nothing_unproven_is_served(
    lags: list[float], timeout: float, steps: list[tuple[str, float]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(*lags, timeout=timeout)
        patch.setattr(Clock, "monotonic", lambda: world.now)
        for what, value in steps:
            world.now += value / 10
            if what == "write":
                world.origin = "written"
                world.write()
            elif what == "lag":
                number = int(value * 100) % len(lags)
                world.shows(number, world.now)
                world.lags[number] = value
            elif what == "receive":  # of a write of another process
                world.origin = "received"
                world.written.append(max([world.now - value, *world.written[-1:]]))
                world.since = world.now
            elif what == "ask":
                world.origin, world.since = "asked", world.now
            elif what == "forget":
                world.since = None
            else:
                _, seconds = world.read()  # asserts that a replica shows what it must
                assert seconds <= timeout + len(lags) * 2 * ROUND_TRIP + WORTH_WAITING


@given(lag=st.floats(0.02, 0.4), ages=st.lists(st.floats(0, 0.6), min_size=100, max_size=100))
def test_once_a_delay_is_known_hardly_any_read_waits_long(lag: float, ages: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(lag)
        patch.setattr(Clock, "monotonic", lambda: world.now)
        world.write()
        world.read()
        long = 0
        for age in ages:
            world.now += 1
            world.write()
            world.now += age
            by, seconds = world.read()
            long += seconds > WORTH_WAITING + 3 * ROUND_TRIP
            if age > lag * 2:
                assert by == 0
        assert long <= 5


def test_the_first_read_with_a_bookmark_asks_briefly_and_the_next_know(make: Any) -> None:
    world = make(0.2)
    world.write()
    world.read()
    world.now += 1
    world.origin = "received"
    world.written.append(world.now - 0.01)  # by another process, a moment ago
    world.since = world.now
    by, seconds = world.read()
    assert by is None
    assert seconds <= WORTH_WAITING + 3 * ROUND_TRIP
    assert world.read() == (None, pytest.approx(ROUND_TRIP))
    world.written.append(world.now - 5)  # and one that is old
    world.written.sort()
    world.now += 0.3
    world.since = world.now
    assert world.read()[0] == 0


def test_a_received_position_that_is_shown_at_once_says_nothing_of_the_delay(make: Any) -> None:
    world = make(0.2)
    world.write()
    world.read()
    usual = world.nodes[0].progress.delay.seconds
    for _ in range(10):
        world.now += 1
        world.origin = "received"
        world.written.append(world.now - 0.5)
        world.since = world.now
        assert world.read()[0] == 0
    assert world.nodes[0].progress.delay.seconds == usual


def test_where_the_age_is_unknown_a_read_waits(make: Any) -> None:
    world = make(0.2)
    world.nodes[0].progress.delay.missed(0.2, world.now)
    world.write()
    world.since = None
    by, seconds = world.read()
    assert by == 0
    assert seconds == pytest.approx(0.2, abs=0.01)


def test_one_read_at_a_time_checks(make: Any) -> None:
    world = make(0.2)
    node: Any = world.nodes[0]
    world.write()
    node.progress.delay.missed(0.2, world.now)
    world.now += 1
    world.write()
    position = MariaDBPosition.parse("0-1-2")
    judged = [CatchUp(position, 0.5, world).judge(node) for _ in range(5)]
    assert judged == [Late.CHECK, *[Late.LEAVE] * 4]


def test_a_report_is_learned_from_until_it_says_nothing_new(make: Any) -> None:
    """Every read after a write goes by here, once a late replica has shown it: only the first few ask."""
    asked: list[object] = []
    world = make(0.02)
    node: Any = world.nodes[0]
    world.write()
    position = MariaDBPosition.parse("0-1-1")
    ages = SimpleNamespace(seen_since=lambda frame: asked.append(frame) or world.seen_since(frame))

    def prefer() -> None:
        assert CatchUp(position, 0.5, ages).prefer(node, (node,)) is node

    node.progress.delay.missed(0.3, world.now)
    node.progress.learn("server", position, fresh=True, now=world.now + 0.02)
    for _ in range(100):
        prefer()
    assert node.progress.delay.seconds == pytest.approx(0.02)
    assert len(asked) < 10
    asked.clear()
    node.progress.delay.missed(0.3, world.now)  # what was learned since is compared anew
    prefer()
    assert asked
    assert node.progress.delay.seconds < 0.3


def test_a_brief_wait_in_vain_is_no_stall(make: Any) -> None:
    world = make(0.2)
    world.write()
    world.nodes[0].progress.delay.missed(0.2, world.now)
    world.now += 1
    world.write()
    assert world.read()[0] is None
    assert world.nodes[0].progress.stalled is None
    assert world.nodes[0].progress.delay.seconds == pytest.approx(0.3)


def test_one_that_has_stalled_is_left_until_its_pause_is_over(make: Any) -> None:
    world = make(0.2)
    world.write()
    node: Any = world.nodes[0]
    node.progress.learn("s0", MariaDBPosition.parse("0-1-0"), fresh=True, now=world.now)
    node.progress.stall(world.now)
    node.progress.delay._check_at = world.now + 100
    position = MariaDBPosition.parse("0-1-1")
    assert CatchUp(position, 0.5, world).judge(node) is Late.LEAVE
    world.now += STALL_PAUSE
    assert CatchUp(position, 0.5, world).judge(node) is Late.WAIT


def test_a_slow_answer_about_an_old_write_is_no_long_delay() -> None:
    """A busy machine answers late, and the write has been there for long."""
    delay = Delay()
    delay.waited(3.0, 3.05, 100.0)
    assert delay.seconds is None
    delay.waited(0.001, 0.002, 100.0)
    delay.waited(3.0, 3.05, 101.0)
    assert delay.seconds == 0.002


def test_another_server_at_the_address_is_estimated_anew() -> None:
    progress = Progress()
    progress.learn("a", MariaDBPosition.parse("0-1-5"), fresh=True)
    progress.delay.missed(0.2, 100.0)
    progress.learn("b", MariaDBPosition.parse("0-1-5"), fresh=True)
    assert progress.delay.seconds is None


def test_an_answer_overtaken_by_another_keeps_the_estimate() -> None:
    """A new connection answers, and before that is recorded, another connection reports more."""
    progress = Progress()
    progress.learn("a", MariaDBPosition.parse("0-1-5"), fresh=True)
    progress.delay.missed(0.2, 100.0)
    progress.learn("a", MariaDBPosition.parse("0-1-4"), fresh=True)
    assert progress.delay.seconds == pytest.approx(0.3)


def test_no_origin_is_left_out() -> None:
    assert set(get_type_hints(Since)["origin"].__args__) == {"written", "asked", "received"}
