"""The scopes in force in a context, as frames: one for each entry of a scope.

They stand in one `ContextVar`, so they follow tasks, greenlets and whatever copies the context. Each context
has its own tuple of frames, but the frames themselves are shared: a frame that has ended is in force nowhere,
whichever contexts still list it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

from ..concurrency import Here, new_lock

Place = Literal["readonly", "primary", "causal", "unit"]


class Session(Protocol):
    """What a scope has to know of the session of a ``causal_session()``."""

    def end(self) -> None:
        """Hand what was seen on to the session around it."""


class Snapshot(Protocol):
    """What a scope has to know of the snapshot it reads from."""

    def end(self) -> None:
        """Close its connection; nothing is read from it any more."""


class Owner(Protocol):
    """The identity of the database that frames belong to."""

    @property
    def units(self) -> Units | None:
        """Where each unit of work keeps to one node; None where it does not."""


class Frame:
    """One entered scope of one database.

    What it keeps for the rooms above (`session`, `node`, `must_reach`) is only stored here: this room knows
    neither sessions nor nodes nor positions.

    Attributes:
        owner: the identity of the database it belongs to.
        place: what the scope is; ``"unit"`` for a unit of work that keeps to one node, which is no scope.
        ended: True once it was left; it is then in force nowhere.
        level: the consistency it asks for, or None for the database's own.
        session: what reads in a ``causal_session()`` must see; None for other scopes. Told of the end.
        node: the node that it has picked and keeps to, except for ``primary()``.
        served: whether that node has served a read.
        snapshot: what ``readonly(snapshot=True)`` reads from; None for other scopes.
        must_reach: the position that the next node has to show, once the scope had to leave one.
        max_lag: how many seconds behind the node may be when it is picked; None: as the database says.
        lock: held while `node` and `must_reach` change; threads may share a scope.
    """

    __slots__ = (
        "ended", "level", "lock", "max_lag", "must_reach", "node", "owner", "place", "served", "session",
        "snapshot",
    )  # fmt: skip

    def __init__(
        self, owner: object, place: Place, *, level: str | None = None, session: Session | None = None
    ) -> None:
        self.owner = owner
        self.place = place
        self.level = level
        self.session = session
        self.ended = False
        self.node: object = None
        self.served = False
        self.must_reach: object = None
        self.max_lag: float | None = None
        self.snapshot: Snapshot | None = None
        self.lock = new_lock()

    def end(self) -> None:
        """Be in force nowhere any more."""
        self.ended = True
        if self.session is not None:
            self.session.end()
        if self.snapshot is not None:
            self.snapshot.end()


# Innermost first. A tuple and not a list: contexts that are copied share it.
_frames: ContextVar[tuple[Frame, ...]] = ContextVar("peewee_replicas_scopes", default=())


def put_in_force(frame: Frame) -> None:
    """Make `frame` the innermost of this context."""
    # Kept until set() has returned: CPython crashes where giving up the old value runs Python code, such as
    # a signal handler, that reads the variable while it is being set.
    before = _frames.get()
    _frames.set((frame, *_live(before)))


def take_off_ended() -> None:
    """Forget the frames of this context that have ended, so that they do not pile up."""
    frames = _frames.get()
    live = _live(frames)
    if live is not frames:
        _frames.set(live)


def here() -> tuple[Frame, ...]:
    """The frames of this context, innermost first, those that have ended among them."""
    return _frames.get()


def any_here() -> bool:
    """Whether this context may be inside a scope of any database."""
    return bool(_frames.get())


def innermost(owner: object) -> Frame | None:
    """The innermost ``readonly()`` or ``primary()`` of `owner` that is in force in this context."""
    # Asked for every statement, and most run outside of scopes: that must cost next to nothing.
    frames = _frames.get()
    if frames:
        for frame in frames:
            if frame.owner is owner and not frame.ended and frame.session is None:
                return frame
    return None


def pinning(owner: Owner) -> Frame | None:
    """What keeps to one node here: the outermost scope that does, which those in it reuse; else the unit."""
    found = None
    for frame in _of(owner):
        if frame.place != "primary":
            found = frame
    if found is None and owner.units is not None:
        return owner.units.frame()
    return found


def tightest_lag(owner: object) -> float | None:
    """The tightest ``readonly(max_lag=…)`` of `owner` that is in force in this context."""
    bounds = [frame.max_lag for frame in _of(owner) if frame.max_lag is not None]
    return min(bounds) if bounds else None


def snapshotting(owner: object) -> Frame | None:
    """The innermost ``readonly(snapshot=True)`` of `owner` that is in force in this context."""
    return next((frame for frame in _of(owner) if frame.snapshot is not None), None)


def causal(owner: object) -> Frame | None:
    """The innermost ``causal_session()`` of `owner` that is in force in this context."""
    if not _frames.get():
        return None
    return next((frame for frame in _of(owner) if frame.session is not None), None)


def _of(owner: object) -> Iterator[Frame]:
    for frame in _frames.get():
        if frame.owner is owner and not frame.ended:
            yield frame


def _live(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    for frame in frames:
        if frame.ended:
            return tuple([frame for frame in frames if not frame.ended])
    return frames


class Units:
    """The units of work of one database, each with a frame of its own, which keeps to one node.

    A unit of work is what a thread or task does between two calls of ``close()``.

    Parameters:
        owner: the database's identity.
        here: tells threads, or tasks, apart.
    """

    def __init__(self, owner: Owner, here: Here) -> None:
        self._owner = owner
        self._local = here.local()

    def frame(self) -> Frame:
        """That of the present unit."""
        found: Frame | None = getattr(self._local, "frame", None)
        if found is None:
            found = self._local.frame = Frame(self._owner, "unit")
        return found

    def end(self) -> None:
        """The present unit is over: the next one picks a node anew."""
        self._local.frame = None


class Steps:
    """Puts a frame in force for each step of something that runs in steps, such as a generator.

    Between steps the context is as it was found. Scopes that a step entered and did not leave are in force
    again in the next step, and only there.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._inner: tuple[Frame, ...] = ()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step."""
        before = _frames.get()
        token = _frames.set((*self._inner, self._frame, *_live(before)))
        try:
            yield
        finally:
            after = _frames.get()
            try:
                _frames.reset(token)
            except ValueError:
                pass  # an event loop closes a forgotten generator in another context, which we leave alone
            else:
                outer = (self._frame, *before)
                self._inner = tuple(frame for frame in after if frame not in outer)
