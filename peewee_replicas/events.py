"""Routes, events and counters: how the library reports its decisions to the program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Literal, NamedTuple, Protocol, TypeVar, get_args

from .concurrency import HAS_GIL, new_lock
from .log import log_event
from .statements.comments import comment_of, may_have_comment
from .statements.redaction import redacted
from .statements.tokens import Dialect

E = TypeVar("E")

Role = Literal["primary", "replica"]

Cause = Literal[
    "write", "locking", "session", "unproven", "transaction", "session_state", "scope", "on_primary",
    "setting", "sticky", "position_unknown", "rerun", "behind", "fallback", "no_replicas",
]  # fmt: skip
"""Why the primary serves a statement, in one word:

- ``"write"``, ``"locking"``, ``"session"``: what the statement is;
- ``"unproven"``: it returns rows, and cannot be proven a read;
- ``"transaction"``: it runs in one, or begins or ends one;
- ``"session_state"``: the session carries state that a replica lacks;
- ``"scope"``, ``"on_primary"``: ``primary()``, or bound to ``on_primary``;
- ``"setting"``: ``reads="primary"`` or ``"observe"``;
- ``"sticky"``: after a write on servers without GTIDs;
- ``"position_unknown"``: the primary refuses to report its position;
- ``"rerun"``: a replica refused it as a write, or lacked something;
- ``"behind"``: no replica showed yet what it must see, within a wait that is worth it;
- ``"fallback"``: no replica could serve it for another reason;
- ``"no_replicas"``: none is configured."""

CAUSES: tuple[Cause, ...] = get_args(Cause)


class Route(NamedTuple):
    """Where one execution goes, and why.

    Attributes:
        role: ``"primary"`` or ``"replica"``.
        node: the node's name; None if a policy would have to choose it first.
        kind: the statement's kind, found from its text alone.
        reason: the first rule that applied, in words.
        cause: the same in one word of `Cause`; ``""`` if a replica, or the primary listed as one, serves it.
    """

    role: Role
    node: str | None
    kind: str
    reason: str
    cause: Cause | Literal[""] = ""


class RouteEvent(NamedTuple):
    """One execution. Each callable in ``db.route_hooks`` gets it when the execution has ended.

    peewee's own ``BEGIN``, ``COMMIT`` and ``ROLLBACK`` are executions too, if anything had to be sent.

    Attributes:
        database: the name of the database.
        sql: the text as the program gave it, without its parameters; ``repr()`` shows it without its values.
        role, node, kind, reason: as in `Route`; those of the last attempt if there were several.
        attempts: how often the statement was sent to a node (1 unless a node failed or refused it).
        observed: with ``reads="observe"``, the replica it would have gone to; otherwise None.
        duration: seconds, from the decision to the first result.
        error: the exception's class, with the number and name if the server sent the error, or with the
            message if this library or the driver raised it. Never a server's message, which quotes values.
            None if there was no error.
        cause: as in `Route`.
        flavour: ``"mysql"``, ``"mariadb"`` or ``"sqlite"``; ``""`` if no server has answered yet.
        address: the node's host, the path of its socket, or the path of a SQLite file.
        port: the node's port; None with a path.
        error_type: the name of the exception's class; None if there was no error.
        error_number: the number of a server's or the driver's error; None if it has none.
        waited: seconds spent waiting for replicas to catch up; part of `duration`.
    """

    database: str
    sql: str
    role: Role
    node: str
    kind: str
    reason: str
    attempts: int
    observed: str | None
    duration: float
    error: str | None
    cause: Cause | Literal[""] = ""
    flavour: Dialect | Literal[""] = ""
    address: str = ""
    port: int | None = None
    error_type: str | None = None
    error_number: int | None = None
    waited: float = 0.0

    def __repr__(self) -> str:
        fields = self._replace(sql=redacted(self.sql))._asdict()
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


RouteHook = Callable[[RouteEvent], object]

CommentHook = Callable[[str], Mapping[str, object] | None]
"""Takes a statement's text before it is sent; returns tags for a comment that is added to it, or None."""

_in_route_hook: ContextVar[Sequence[bool]] = ContextVar("peewee_replicas_in_route_hook", default=())
_in_comment_hook: ContextVar[Sequence[bool]] = ContextVar("peewee_replicas_in_comment_hook", default=())


PrimaryNews = Literal["up", "down", "read_only"]
"""The states of the primary as the writer."""


class NodeEvent(NamedTuple):
    """A change of a node's state. Each callable in ``db.node_hooks`` gets it.

    Attributes:
        database: the name of the database.
        node: the node's name; ``"primary"`` for the primary.
        state: as `Replica.state`; for the primary ``"up"``, ``"down"`` or ``"read_only"`` (takes no writes);
            ``"primary"``: it takes the writes now.
        cause: why, in words; ``""`` if the node is up again.
    """

    database: str
    node: str
    state: str
    cause: str


NodeHook = Callable[[NodeEvent], object]
RoundHook = Callable[[str], object]
"""Gets the database's name when the prober has looked at the nodes again, or has stopped."""


class Named(Protocol):
    """The part of a node that events use."""

    @property
    def name(self) -> str: ...


class NodeNews:
    """Reports changes of nodes to the hooks of one database.

    Attributes:
        database: the name of the database.
        hooks: callables that get one `NodeEvent` per change.
        round_hooks: callables that want to know when what is known of the nodes is new, changed or not.
    """

    def __init__(self) -> None:
        self.database = ""
        self.hooks: list[NodeHook] = []
        self.round_hooks: list[RoundHook] = []
        self._primary: PrimaryNews = "up"
        self._lock = new_lock()

    def tell_of_primary(self, state: PrimaryNews, cause: str) -> None:
        """Report the state of the primary as the writer to the hooks, if it differs from the last one."""
        with self._lock:
            changed, self._primary = state != self._primary, state
        if changed and self.hooks:
            _tell(self.hooks, NodeEvent(self.database, "primary", state, cause), "node_hooks")

    def tell(self, node: Named, state: str, cause: str) -> None:
        """Report a change of a node's state to the hooks."""
        if self.hooks:
            _tell(self.hooks, NodeEvent(self.database, node.name, state, cause), "node_hooks")

    def tell_of_round(self) -> None:
        """Report that the prober has looked at the nodes, or has stopped doing so."""
        if self.round_hooks:
            _tell(self.round_hooks, self.database, "round_hooks")

    def continue_from(self, before: NodeNews) -> None:
        """Keep the hooks of the same database's nodes before `init()`."""
        self.hooks, self.round_hooks = before.hooks, before.round_hooks


def tell_of_route(hooks: Iterable[RouteHook], event: RouteEvent) -> None:
    """Report an execution to the hooks, unless a hook itself made it."""
    if any(_in_route_hook.get()):
        return  # otherwise a hook that writes its events to the same database would never end
    inside = [True]  # a task that a hook starts keeps this list in its context
    token = _in_route_hook.set(inside)
    try:
        _tell(hooks, event, "route_hooks")
    finally:
        inside.clear()
        _in_route_hook.reset(token)


def ask_for_comment(hooks: Iterable[CommentHook], sql: str) -> str:
    """Return the comment to add to a statement, from the tags of all hooks; ``""`` for none.

    A statement that contains a comment, or may, gets no second one; nor does one whose text the server keeps.
    """
    if any(_in_comment_hook.get()) or not may_have_comment(sql):
        return ""  # statements that a hook executes itself get no comments, or it would never end
    tags: dict[str, object] = {}
    inside = [True]  # a task that a hook starts keeps this list in its context
    token = _in_comment_hook.set(inside)
    try:
        for hook in list(hooks):
            try:
                given = hook(sql) or {}
                comment_of(given)  # raises for a value that cannot be encoded
                tags.update(given)
            except Exception:
                # A comment is never worth a statement.
                log_event("hook_failed", "a callable in %s has failed", "comment_hooks", exc_info=True)
    finally:
        inside.clear()
        _in_comment_hook.reset(token)
    return comment_of(tags)


def _tell(hooks: Iterable[Callable[[E], object]], event: E, attribute: str) -> None:
    handled = sys.exc_info()[1]
    for hook in list(hooks):
        try:
            hook(event)
        except Exception as exc:
            _part(exc, handled)
            # The statement already has its result or its error. The hook's error must not replace either.
            log_event("hook_failed", "a callable in %s has failed", attribute, exc_info=True)


def _part(exc: BaseException, handled: BaseException | None) -> None:
    """Unlink a hook's error from the statement's error, which may quote values, so that no log shows both."""
    link: BaseException | None = exc
    while link is not None and handled is not None:
        if link.__context__ is handled:
            link.__context__ = None
        link = link.__context__


class Counters:
    """Named numbers that only grow. Threads may count at the same time."""

    def __init__(self, *names: str) -> None:
        self._lock = new_lock()
        self._values = dict.fromkeys(names, 0)

    def add(self, name: str, amount: int = 1) -> None:
        """Increase the counter `name`, one of the names given to the constructor, by `amount`."""
        if HAS_GIL:
            self._values[name] += amount  # contains no call, so nothing can come in between
        else:
            with self._lock:
                self._values[name] += amount

    def snapshot(self) -> dict[str, int]:
        """Return all numbers as they are now."""
        with self._lock:
            return dict(self._values)
