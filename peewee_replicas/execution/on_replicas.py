"""A read on replicas: catching up, retries, the rerun on the primary, the fallback, snapshots."""

from __future__ import annotations

import logging
from typing import Any, cast

from peewee import PeeweeException
from playhouse.pool import MaxConnectionsExceeded

from ..concurrency import Clock
from ..connections.failures import TREATMENTS
from ..connections.snapshot import Snapshot
from ..consistency.catch_up import CatchUp
from ..consistency.levels import ASK
from ..errors import NoReplicaAvailable
from ..nodes.replica import Replica
from ..positions import Position
from ..routing.decision import REPLICA
from ..scopes.frames import Frame, any_here, pinning, snapshotting
from ..servers.error_meanings import NO_CONNECTION, Meaning, explained
from .attempt import Attempts, Behind

logger = logging.getLogger("peewee.replicas")

_INTERRUPTED = 1317  # ER_QUERY_INTERRUPTED
_LOST_TWICE = (
    "this read was sent twice and lost its connection each time, so it is not sent again; see what it does "
    "to the server, or run it again"
)
_LOST_ON_A_NODE_THAT_IS_WELL = (
    "this read was sent, and its connection was lost though the node is well; see who ends it, a "
    "read_timeout for one, or run it again"
)


class Reading(Attempts):
    """The way of one read from node to node."""

    def place(self) -> Any:
        """The database of the node where a read would run now, ready for it; the read is not sent."""
        self.sends = False
        if self.decision.target == REPLICA:
            self._read()
        else:
            self._on_reader()
        return self.found

    def _read(self) -> Any:
        core = self.core
        self.scoped = any_here()
        if not self.scoped and not core.replicas.usable:
            return self._fall_back()  # the primary shows whatever it must see
        position = ASK if self.scoped else core.consistency.at_hand()
        if position is ASK:
            needs = core.consistency.needs(self.frame)
            if needs.primary:
                self.reason = needs.primary
                with core.consistency.excusing(needs.excused):
                    return self._on_primary()
            if needs.position is not None:
                self.catch_up = CatchUp(needs.position, core.settings.catch_up_timeout)
            held = snapshotting(core)
            if held is not None:
                return self._in_snapshot(held)
        elif position is not None:
            self.catch_up = CatchUp(position, core.settings.catch_up_timeout)
        replica = core.choose(self.catch_up, scoped=self.scoped)
        if replica is None:
            replica = self._elsewhere()  # a scope's node went out of rotation between two reads
        elif self.scoped:
            self._heed_move()
            self._follow_fallback(replica)
        return self._on_replicas(replica)

    def _heed_move(self) -> None:
        # Another thread of the scope may have moved it since this read's needs were found.
        core = self.core
        pin = pinning(core)
        if pin is not None and pin.must_reach is not None:
            self._must_reach(cast(Position, pin.must_reach))

    def _must_reach(self, position: Position) -> None:
        if self.catch_up is None:
            self.catch_up = CatchUp(position, self.core.settings.catch_up_timeout)
        else:
            self.catch_up.add(position)

    def _in_snapshot(self, frame: Frame) -> Any:
        """The read, in the scope's snapshot, which begins with its first read."""
        core, snapshot = self.core, cast(Snapshot, frame.snapshot)
        if snapshot.claim():
            try:
                self._begin_snapshot(snapshot)
            except BaseException:
                snapshot.let_go()
                raise
            node = snapshot.node()
        else:
            node = snapshot.node()
            self._follow_fallback(cast(Replica, snapshot.replica))
        try:
            return self._attempt(cast(Replica, snapshot.replica), node)
        except PeeweeException as exc:
            found = self.database._meaning(exc)
            if found == "refused":
                raise self._violation(exc) from exc
            if found in NO_CONNECTION:
                core.counters.add("snapshots_lost")
                raise snapshot.lost(exc) from exc
            raise

    def _begin_snapshot(self, snapshot: Snapshot) -> None:
        core = self.core
        replica = core.choose(self.catch_up)
        while replica is not None:
            try:
                if snapshot.begin(self.database, core, replica, self.catch_up):
                    return
                self.tried[replica] = self._behind()
            except PeeweeException as exc:
                if not self.database._is_not_opened(exc):
                    raise
                self.tried[replica] = exc
            replica = core.another(set(self.tried))
        self._refuse_fallback()
        try:
            snapshot.begin(self.database, core, core.reader, None)
        except PeeweeException as exc:
            self.database._name_reader(exc)
            self._tell_nobody_answers(exc)
            raise

    def _on_replicas(self, replica: Replica | None) -> Any:
        while replica is not None:
            try:
                node = self.database._reach(replica)
            except MaxConnectionsExceeded as exc:
                if not self.database._holds_above(replica):
                    raise
                self.tried[replica] = exc
                replica = self._elsewhere()
                continue
            except PeeweeException as exc:
                if not self.database._is_not_opened(exc):
                    raise
                self.tried[replica] = exc
                replica = self._elsewhere()
                continue
            try:
                if self.catch_up is None:
                    return self._attempt(replica, node)
                return self._attempt_at(replica, node, self.catch_up)
            except Behind as exc:
                self.tried[replica] = exc
                self.core.counters.add("behind")
                replica = self._elsewhere()
            except PeeweeException as exc:
                found = self.database._meaning(exc)
                if exc.args[:1] == (_INTERRUPTED,) and not node._state.conn.is_alive():
                    found = "lost"  # no one has killed the query: its server is stopping
                if found == "statement":
                    raise
                if found in ("refused", "missing"):
                    return self._rerun(replica, exc, found)
                replica = self._after_failure(replica, node, exc, found)
                self.core.counters.add("retries")
        return self._fall_back()

    def _elsewhere(self) -> Replica | None:
        """The next replica for a read that could not be had where it was tried, or None."""
        core = self.core
        pin = pinning(core)
        if pin is not None and pin.served:
            # The scope leaves a node: the next must show at least what the primary has now.
            try:
                now = core.consistency.primary.current()
            except PeeweeException as exc:
                eventual = core.consistency.level_of(self.frame) == "eventual"
                if not (eventual and self.database._has_no_connection(exc)):
                    raise
                return core.another(set(self.tried))
            if now is None:
                return None
            with pin.lock:
                before: Any = pin.must_reach
                pin.must_reach = must_reach = now if before is None else before.merge(now)
            self._must_reach(must_reach)
        return core.another(set(self.tried))

    def _stay_with(self, replica: Replica) -> None:
        pin = pinning(self.core)
        if pin is not None and self.decision.target == REPLICA:
            with pin.lock:
                pin.node = replica

    def _on_primary(self) -> Any:
        """A read that no replica may serve: on the primary, guarded where the scope is ``readonly()``."""
        if self.frame is not None and self.frame.place == "readonly":
            return self._on_reader()
        return self._on_writer()

    def _after_failure(self, replica: Replica, node: Any, exc: Exception, found: Meaning) -> Replica | None:
        """Where a read goes whose connection failed it; raises where it may not be sent again."""
        treatment = TREATMENTS[found]
        if treatment.node == "back off":
            replica.back_off(str(exc))
        else:
            node._discard()
        if treatment.node == "eject":
            replica.unready = found == "not ready"
            replica.failed(self.database._cause(exc))
        alive = False
        if treatment.read == "once more":
            if self.lost is not None:
                # A query that kills its server, or that is killed, must not walk over every node.
                exc.args = explained(exc.args, replica.label, _LOST_TWICE)
                raise exc from self.lost
            alive = self._answers(replica)
            self.lost, self.lost_at = exc, replica if alive else None
        elif treatment.read == "again" and replica not in self.unsent:
            self.unsent.add(replica)
            return replica
        if alive and pinning(self.core) is not None:
            return replica  # the node is well, so the scope stays with it
        self.tried[replica] = exc
        return self._elsewhere()

    def _answers(self, replica: Replica) -> bool:
        if replica.breaker.open:
            return False  # found out already
        try:
            self.database._reach(replica)
        except MaxConnectionsExceeded:
            return True  # others have all the connections that the pool may open there
        except PeeweeException:
            return False
        return True

    def _rerun(self, replica: Replica, exc: Exception, found: str) -> Any:
        """A replica executed nothing: it took the read for a write, or lacks what it names."""
        readonly = self.frame is not None and self.frame.place == "readonly"
        if found == "refused":
            if readonly:
                raise self._violation(exc) from exc
            self.core.classifier.demote(self.sql)
            logger.warning("%s refused as a write what was taken for a read: %s", replica.label, self.sql)
        self.core.counters.add("reruns")
        self.reason = f"{replica.name} could not run it ({exc.args[0]}), rerun on the primary"
        try:
            return self._on_primary()
        except PeeweeException as again:
            # Without a primary, what the replica said is the answer.
            if found == "missing" and self.database._has_no_connection(again):
                raise exc from again
            raise

    def _refuse_fallback(self) -> str:
        """Why no replica can serve the read, in words; raises where that is to be an error."""
        core = self.core
        reasons: str = self.database._reasons(self.tried)
        if core.replicas.all and core.settings.fallback == "error":
            raise NoReplicaAvailable(
                f"no replica can serve the read ({reasons}); "
                'with fallback="primary" the primary would have served it'
            ) from (list(self.tried.values())[-1] if self.tried else None)
        if core.replicas.all:
            if core.settings.max_fallback_share is not None:
                self._spend_fallback(reasons)
            core.counters.add("fallbacks")
        self.reason = f"no replica can serve it: {reasons}"
        return reasons

    def _spend_fallback(self, reasons: str) -> None:
        core = self.core
        if not core.budget.may_fall_back(Clock.monotonic(), core.replicas.reads(), self.attempts):
            core.counters.add("fallbacks_refused")
            raise NoReplicaAvailable(
                f"no replica can serve the read ({reasons}), and as many of the recent reads have fallen "
                f"back to the primary as max_fallback_share={core.settings.max_fallback_share} allows; "
                "bring a replica back, or allow a larger share"
            ) from (list(self.tried.values())[-1] if self.tried else None)

    def _follow_fallback(self, replica: Replica) -> None:
        # A scope that fell back stays on the primary: its first read was allowed to, so that its others are.
        core = self.core
        shared = core.settings.max_fallback_share is not None
        if shared and replica is core.reader and replica not in core.replicas.all:
            core.budget.charge(Clock.monotonic(), core.replicas.reads())

    def _fall_back(self) -> Any:
        back = self.lost_at
        if self.lost is not None and back is not None and not back.breaker.open:
            if self.returned:
                # Its node is well, so it is the statement that loses its connection.
                self.lost.args = explained(self.lost.args, back.label, _LOST_ON_A_NODE_THAT_IS_WELL)
                raise self.lost
            self.returned = True
            self._stay_with(back)
            return self._on_replicas(back)
        if any(isinstance(exc, Behind) for exc in self.tried.values()):
            self.core.consistency.look_for_lost_history()
        self._refuse_fallback()
        try:
            return self._on_primary()
        except PeeweeException as exc:
            self._tell_nobody_answers(exc)
            raise

    def _tell_nobody_answers(self, exc: PeeweeException) -> None:
        if self.core.replicas.all and self.database._has_no_connection(exc):
            raise self.database._nobody_answers(self.tried, exc) from exc
