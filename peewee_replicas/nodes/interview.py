"""What a probe asks of a node, and what the answers mean: role, lag, and whether reads may go there. Pure.

The caller brings the answers and the readings of a monotonic clock; of a server this knows what its module
in `servers` says, nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

Role = Literal["primary", "replica", "member", "detached"]
"""What a node is found to be: ``"member"`` of a cluster that replicates by other means than channels;
``"detached"`` replicates from nobody, or has writes of its own."""
State = Literal["up", "lagging", "unfit"]

# `SHOW VARIABLES` cuts values short, on MySQL at 1024 characters; longer ones are asked for by themselves.
_MAY_BE_CUT = 1000
_SYNTAX_ERROR = 1064
_SAMPLES_KEPT = 64


class Answers(NamedTuple):
    """What one node has answered.

    Attributes:
        variables: its settings, by name.
        channels: its replication channels; None where it does not tell this user.
        heartbeats: the rows of the heartbeat table, or what was answered instead; None: not asked.
    """

    variables: Mapping[str, str]
    channels: Sequence[Mapping[str, Any]] | None
    heartbeats: Any = None


class Channel(NamedTuple):
    """One replication channel.

    Attributes:
        receives, applies: whether the two halves are at work; receiving is, while it tries to connect.
        behind: seconds, as the server tells them; None where it cannot.
        error: what the server says has stopped it, or ``""``.
    """

    receives: bool
    applies: bool
    behind: float | None
    error: str


class Facts(NamedTuple):
    """What the answers of one node say.

    Attributes:
        server: its identity, as it tells it; ``""`` where it has none to tell.
        itself: the same, and told apart from a copy's.
        read_only, offline: whether these settings of the server are on.
        member: whether it belongs to a cluster that replicates by other means than channels.
        position: what it has reached as a replica; None where the server keeps no GTIDs.
        sample: what it has as a primary; None likewise.
        own_writes: what it has written by itself.
        channels: None where they are not told.
        beats: the newest heartbeat by server id, or None.
    """

    server: str
    itself: tuple[str, str]
    read_only: bool
    offline: bool
    member: bool
    position: Any
    sample: Any
    own_writes: Any
    channels: tuple[Channel, ...] | None
    beats: Mapping[str, datetime] | None


class Asking:
    """What is worth asking of a node; learned from its first answers, and forgotten with the connection.

    Attributes:
        spelling: which of the server's statements for its channels is used; beyond the last: none is.
        heartbeat_table: its name, or None.
        complaint: why something is not asked any more, in words, or ``""``.
    """

    def __init__(self, heartbeat_table: str | None) -> None:
        self.spelling = 0
        self.heartbeat_table = heartbeat_table
        self.complaint = ""


def interview(flavour: Any, asking: Asking, target: Any, seconds: float) -> Generator[str, Any, Answers]:
    """The questions of one probe, one after the other; each answer is sent in, rows or an exception.

    Parameters:
        target: a position that the node is given the time to reach before it is asked; None: no time.
        seconds: how long that may take.

    Raises:
        Exception: the server refuses even the first question.
    """
    if target is not None:
        yield flavour.settle(target.text(), seconds)
    answer = yield flavour.PROBE
    if isinstance(answer, Exception):
        raise answer
    variables = {row["Variable_name"]: row["Value"] for row in answer}
    for name in flavour.LONG_VALUES:
        if len(variables.get(name, "")) >= _MAY_BE_CUT:
            answer = yield f"SELECT @@GLOBAL.{name} AS value"
            if isinstance(answer, Exception):
                raise answer
            variables[name] = answer[0]["value"]
    channels = None
    while asking.spelling < len(flavour.CHANNELS):
        answer = yield flavour.CHANNELS[asking.spelling]
        if not isinstance(answer, Exception):
            channels = answer
            break
        unknown = answer.args[:1] == (_SYNTAX_ERROR,)
        asking.spelling = asking.spelling + 1 if unknown else len(flavour.CHANNELS)
    heartbeats = None
    if asking.heartbeat_table is not None:
        heartbeats = yield f"SELECT server_id, ts FROM {_quoted(asking.heartbeat_table)}"
        if isinstance(heartbeats, Exception):
            asking.complaint = f"heartbeat_table cannot be read ({heartbeats})"
            heartbeats = None
    return Answers(variables, channels, heartbeats)


def _quoted(table: str) -> str:
    return ".".join(f"`{part}`" for part in table.split("."))


def facts(answers: Answers, flavour: Any) -> Facts:
    """What the answers say."""
    found = answers.variables
    server = found.get(flavour.IDENTITY, "")
    has_gtids = found.get("gtid_mode", "ON") == "ON"
    channels = answers.channels
    return Facts(
        server=server,
        itself=(server, found.get("server_id", "")),
        read_only=found.get("read_only", "OFF") not in ("OFF", "0"),
        offline=found.get("offline_mode", "OFF") == "ON",
        member=found.get("wsrep_on") == "ON"
        or bool(found.get("group_replication_group_name"))
        or found.get("innodb_read_only") == "ON",
        position=flavour.position(found.get(flavour.REACHED, "")) if has_gtids else None,
        sample=flavour.sampled(found),
        own_writes=flavour.own_writes(found) if has_gtids else None,
        channels=None if channels is None else tuple(channel(row) for row in channels),
        beats=None if answers.heartbeats is None else heartbeats(answers.heartbeats),
    )


def channel(row: Mapping[str, Any]) -> Channel:
    """One row of ``SHOW REPLICA STATUS``, in the old words or the new."""
    words = {name.lower().replace("slave", "replica").replace("source", "master"): row[name] for name in row}
    behind = words.get("seconds_behind_master")
    errors = (words.get("last_io_error"), words.get("last_sql_error"))
    return Channel(
        receives=words.get("replica_io_running") != "No",
        applies=words.get("replica_sql_running") != "No",
        behind=None if behind is None else float(behind),
        error="; ".join(str(error) for error in errors if error),
    )


def heartbeats(rows: Sequence[Mapping[str, Any]]) -> dict[str, datetime]:
    """The newest heartbeat by server id, of a table as pt-heartbeat keeps it; others' rows are left out."""
    found: dict[str, datetime] = {}
    for row in rows:
        when = row["ts"]
        if not isinstance(when, datetime):
            try:
                when = datetime.fromisoformat(str(when))
            except ValueError:
                continue
        when = when.replace(tzinfo=None)
        server = str(row["server_id"])
        found[server] = max(when, found.get(server, when))
    return found


def heartbeat_lag(primary: Mapping[str, datetime] | None, replica: Mapping[str, datetime] | None) -> Any:
    """Seconds between the newest heartbeat on the primary and the same server's on the replica, or None."""
    if not primary or not replica:
        return None
    beating = max(primary, key=primary.__getitem__)
    if beating not in replica:
        return None
    return max(0.0, (primary[beating] - replica[beating]).total_seconds())


class Samples:
    """Where the primary was, and when: a replica that has reached a sample is no further behind than that.

    Attributes:
        newest: the last position sampled, or None.
        seen_at: when the primary has last answered; None: it has not.
        answers: whether it did so the last time it was asked.
        server: who it was.
        beats: its newest heartbeats, or None.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[float, Any]] = []
        self.newest: Any = None
        self.seen_at: float | None = None
        self.answers = False
        self.server: tuple[str, str] | None = None
        self.beats: Mapping[str, datetime] | None = None

    def add(self, asked_at: float, answered_at: float, told: Facts) -> None:
        """Take in what the primary has answered."""
        if self.server is not None and told.itself != self.server:
            self._kept.clear()  # another server plays the primary now
        self.server, self.seen_at, self.answers = told.itself, answered_at, True
        self.beats = told.beats
        self.newest = told.sample
        if told.sample is None:
            return
        if len(self._kept) > 1 and self._kept[-1][1] == told.sample == self._kept[-2][1]:
            self._kept.pop()  # idle: the first and the last moment of one position tell all
        self._kept.append((asked_at, told.sample))
        if len(self._kept) > _SAMPLES_KEPT:
            half = _SAMPLES_KEPT // 2
            self._kept[:half] = self._kept[:half:2]  # the older, the further apart

    def miss(self) -> None:
        """The primary could not be asked."""
        self.answers = False

    def reached(self, position: Any) -> float | None:
        """When the newest sample was taken that this position covers; None where it covers none."""
        kind = type(position)
        covered = (
            at for at, sample in reversed(self._kept) if type(sample) is kind and position.covers(sample)
        )
        return next(covered, None)

    @property
    def known(self) -> bool:
        """Whether there is any sample to compare with."""
        return bool(self._kept)


def lag_bound(reached_at: float, answered_at: float, samples: Samples) -> float:
    """By how many seconds, at most, a node was behind when it answered.

    While the primary cannot be asked, lag stands still.

    Parameters:
        reached_at: when the newest sample was taken that the node had then reached.
    """
    until = answered_at if samples.answers or samples.seen_at is None else min(answered_at, samples.seen_at)
    return max(0.0, until - reached_at)


def role_change(told: Facts, server: tuple[str, str] | None, read_only: bool | None) -> str:
    """Why connections to the primary's address may lead to a primary that is none any more, or ``""``.

    Parameters:
        told: what has answered there.
        server: who answered there before; None: nobody yet.
        read_only: whether that was read-only.
    """
    if server is None or told.member:  # in a cluster of members any may answer
        return ""
    if told.itself != server:
        return "is another server now"
    return "is read-only now" if told.read_only and read_only is False else ""


class Verdict(NamedTuple):
    """What becomes of a node after a probe.

    Attributes:
        state: ``"up"``, or why no reads go there: ``"lagging"``, or ``"unfit"`` to be a replica at all.
        cause: in words, or ``""``.
        role: what it is found to be.
        lag: seconds, or None where that is not known.
        remark: what an operator should look at, though reads go there; or ``""``.
    """

    state: State
    cause: str
    role: Role
    lag: float | None
    remark: str = ""


def judge(
    told: Facts, *, is_primary: bool, listed: bool, diverged: bool, lag: float | None, doubt: bool,
    samples: Samples, max_lag: float | None,
) -> Verdict:  # fmt: skip
    """What becomes of a node that serves reads.

    Parameters:
        told: what it has answered.
        is_primary: whether it is the primary itself; `listed`: whether it was given as such.
        diverged: whether it has writes of its own that do not arrive at the primary.
        lag: seconds by which it is behind; None: not known.
        doubt: whether it was not seen to reach anything that the primary is known to have.
        samples: of the primary.
        max_lag: the bound; None: there is none.
    """
    if told.offline:
        return Verdict("unfit", "offline_mode is ON", "primary" if is_primary else "replica", lag)
    if is_primary:
        remark = "" if listed else "is the primary itself, by another address"
        return Verdict("up", "", "primary", 0.0, remark)
    role, obstacle = _role(told, diverged, samples)
    if obstacle:
        return Verdict("unfit", obstacle, role, None)
    remark = (
        "" if told.read_only or role == "member" else "has read_only=OFF: a write there would not be refused"
    )
    if lag is None and told.channels:
        behind = [each.behind for each in told.channels if each.behind is not None]
        lag = max(behind) if behind else None
    if max_lag is not None and lag is not None and lag > max_lag:
        return Verdict("lagging", f"{lag:.1f} s behind, more than max_lag={max_lag}", role, lag, remark)
    if max_lag is not None and lag is None and doubt:
        cause = "has not been seen to reach anything the primary is known to have, so its lag is not known"
        return Verdict("lagging", cause, role, None, remark)
    return Verdict("up", "", role, lag, remark)


def _role(told: Facts, diverged: bool, samples: Samples) -> tuple[Role, str]:
    """What the node is, and why it is no replica of the primary now, or ``""``."""
    if told.member:
        return "member", ""
    if told.channels is None:
        if diverged and not told.read_only:
            return "detached", "takes writes of its own, which the primary does not have; was it promoted?"
        return "replica", ""
    if not told.channels:
        promoted = "" if told.read_only else " and takes writes (read_only=OFF); was it promoted?"
        return "detached", f"replicates from nobody{promoted}"
    for each in told.channels:
        because = f": {each.error}" if each.error else ""
        if not each.applies:
            return "replica", f"replication is stopped, nothing is applied{because}"
        # Some servers give up on a primary that is gone; then there is nothing to be behind of.
        if not each.receives and samples.answers:
            return "replica", f"replication is stopped, nothing is received{because}"
    return "replica", ""
