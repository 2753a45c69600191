"""The demo on real servers: all common stages, and a replica that is killed and comes back."""

from __future__ import annotations

from collections.abc import Mapping

from peewee_replicas.testing import LocalCluster

from .screen import Screen
from .stages import Demo, Load, Tally, describe_failures

_READS_AROUND = 60
_MIDDLE = 1  # the place of the replica that is killed


class ServerCounter:
    """Takes the counts of the servers themselves."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def reset(self) -> None:
        """Start counting from zero."""
        self._cluster.reset_counts()

    def counts(self) -> Mapping[str, Tally]:
        """What each server has received."""
        return {name: Tally(counts.reads, counts.writes) for name, counts in self._cluster.counts().items()}


class ServerDemo(Demo):
    """All stages, on a running cluster."""

    def __init__(self, cluster: LocalCluster, screen: Screen) -> None:
        self._cluster = cluster
        super().__init__(cluster.database(), ServerCounter(cluster), screen, self._settle)

    def run(self) -> None:
        """All stages and the closing table."""
        self.show_writes()
        self.show_routes()
        self.show_reads()
        self.show_readonly()
        self.show_transaction()
        self.show_death()
        self.show_return()
        states = {node.name: node.state for node in self._cluster.nodes}
        self.show_counts("What the servers counted (statements that clients sent)", states)
        self.screen.step(
            "A killed server takes its last counts with it, and a read that it was busy with is sent again: "
            'in the column "kill -9" the sum may differ from what the program asked for.'
        )

    def _settle(self) -> None:
        self._cluster.sync()
        self.screen.step("waited until every replica has applied the writes; a replica may be late")

    def show_death(self) -> None:
        """A replica dies while threads read."""
        victim = self._cluster.replicas[_MIDDLE]
        with self.stage("kill -9", f"Killing {victim.name} with -9 while threads read") as finish:
            with Load(self.account, self.balances) as load:
                load.wait_for_reads(_READS_AROUND)
                before = load.reads
                victim.kill()
                self.screen.step(f"{victim.name} was killed after {before} reads")
                went_on = load.wait_for_reads(_READS_AROUND)
            counts = finish(load.reads)
            on_primary = counts[self._cluster.primary.name].reads
            self.screen.check(
                went_on and not load.failures and not on_primary and victim.pid is None,
                f"{victim.name} killed in mid-load: {load.reads} reads, {describe_failures(load.failures)}, "
                f"{on_primary} on the primary",
            )

    def show_return(self) -> None:
        """The replica comes back and serves again."""
        victim = self._cluster.replicas[_MIDDLE]
        node = self.db.replicas[_MIDDLE]
        with self.stage("return", f"Starting {victim.name} again") as finish:
            victim.start()
            self.screen.step(f"{victim.name} runs again; the next read that may try it does")
            with Load(self.account, self.balances) as load:
                back = load.wait_for(lambda: node.state == "up") and load.wait_for_reads(_READS_AROUND)
            counts = finish(load.reads)
            served = counts[victim.name].reads
            self.screen.check(
                back and not load.failures and served > 0,
                f"{victim.name} is back in rotation and served {served} of {load.reads} reads; "
                f"{describe_failures(load.failures)}",
            )
