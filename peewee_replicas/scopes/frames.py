"""The scopes in force in a context, as frames: one for each entry of a scope.

They are stored in one `ContextVar`, so tasks, greenlets and anything else that copies the context inherit
them. Each context has its own tuple of frames, but the frames themselves are shared: when a frame has ended,
it is no longer in force in any context, even if contexts still list it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

from ..concurrency import Here, new_lock

Place = Literal["readonly", "primary", "causal", "unit", "place"]

Selector = tuple[frozenset[tuple[str, str]], ...]
"""Which nodes a scope accepts: sets of tags, tried in order, all of one set. Empty: any node."""


class Session(Protocol):
    """The part of a ``causal_session()``'s session that scopes use."""

    def end(self) -> None:
        """Make the enclosing session require all that this one has seen."""


class Snapshot(Protocol):
    """The part of a ``readonly(snapshot=True)``'s snapshot that scopes use."""

    def end(self) -> None:
        """Close the snapshot's connection; nothing more is read from it."""


class Owner(Protocol):
    """The identity of the database that frames belong to."""

    @property
    def units(self) -> Units | None:
        """Keeps track of units of work if each stays on one node; None if the policy picks for each read."""


class Frame:
    """One entered scope of one database.

    The frame only stores `session`, `node` and `must_reach` for other rooms: this room knows neither
    sessions nor nodes nor positions.

    Attributes:
        owner: the identity of the database it belongs to.
        place: the type of scope; ``"unit"`` for a unit of work that keeps to one node, and
            ``"place"`` for one call through ``on_primary`` or an ``on_replicas()``, which are no scopes.
        ended: True once the scope was left; the frame is then no longer in force anywhere.
        level: the consistency that the scope asks for, or None for the database's own.
        session: the session of a ``causal_session()``, which ends with the frame; None for other scopes.
        node: the node that the scope has picked and keeps to; unused by ``primary()``.
        served: whether that node has served a read.
        snapshot: the snapshot of a ``readonly(snapshot=True)``; None for other scopes.
        must_reach: the position that the next node must have reached, because the scope had to leave a node.
        selector: which nodes it accepts, those of the scopes around it included.
        chosen_for: the selector in force when `node` was chosen.
        max_lag: the lag in seconds that a node may have when it is picked; None for the database's own.
        in_share: whether the unit of work belongs to the share of which replicas serve the reads; None: not
            decided yet.
        lock: held while `node` and `must_reach` change, because threads may share a scope.
    """

    __slots__ = (
        "chosen_for", "ended", "in_share", "level", "lock", "max_lag", "must_reach", "node", "owner", "place",
        "selector", "served", "session", "snapshot",
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
        self.selector: Selector = ()
        self.chosen_for: Selector = ()
        self.snapshot: Snapshot | None = None
        self.in_share: bool | None = None
        self.lock = new_lock()

    def is_in_share(self, share: float, chance: Callable[[], float]) -> bool:
        """Return whether it belongs to the share of which replicas serve the reads; decided once.

        Parameters:
            share: the share of all units of work, from 0 to 1.
            chance: returns a random number from 0 to below 1.
        """
        if self.in_share is None:
            self.in_share = chance() < share
        return self.in_share

    def end(self) -> None:
        """End the frame in all contexts, with its session and its snapshot."""
        self.ended = True
        if self.session is not None:
            self.session.end()
        if self.snapshot is not None:
            self.snapshot.end()


class PlaceFrame(Frame):
    """One call of a method through ``on_primary`` or an ``on_replicas()`` of a database.

    Attributes:
        through: the ``on_primary`` or ``on_replicas()``.
        at_primary: whether it is ``on_primary``.
        query: the query that the call executes; None if it executes none, or gets it as text.
    """

    __slots__ = ("at_primary", "query", "through")

    def __init__(self, owner: object, through: object, *, at_primary: bool, query: object = None) -> None:
        super().__init__(owner, "place")
        self.through = through
        self.at_primary = at_primary
        self.query = query

    def executes(self, query: object) -> bool:
        """Return whether the call executes this query, or another form of its own, and not one beside it.

        A method that a program has wrapped may add a condition to its query. What it asks besides is usually
        bound elsewhere.
        """
        own = self.query
        if own is None:
            return False
        return own is query or getattr(own, "_database", None) is getattr(query, "_database", None)


# Innermost first. A tuple and not a list, because copied contexts share it.
_frames: ContextVar[tuple[Frame, ...]] = ContextVar("peewee_replicas_scopes", default=())


def put_in_force(frame: Frame) -> None:
    """Make `frame` the innermost frame of this context."""
    # Keep the old value until set() has returned. CPython crashes if freeing it runs Python code, such as a
    # signal handler, that reads the variable while it is being set.
    before = _frames.get()
    _frames.set((frame, *_live(before)))


def take_off_ended() -> None:
    """Remove the frames of this context that have ended, so that they do not pile up."""
    frames = _frames.get()
    live = _live(frames)
    if live is not frames:
        _frames.set(live)


here: Callable[[], tuple[Frame, ...]] = _frames.get
"""Returns the frames of this context, innermost first, including those that have ended.

Every statement asks, and most run outside of scopes: a function around this one would cost more than it.
"""


def innermost(owner: object) -> Frame | None:
    """Return the innermost ``readonly()`` or ``primary()`` of `owner` that is in force in this context."""
    for frame in _frames.get():
        if frame.owner is owner and not frame.ended and frame.session is None and frame.place != "place":
            return frame
    return None


def place_here(owner: object) -> PlaceFrame | None:
    """Return the innermost call through an ``on_primary`` or ``on_replicas()`` of `owner` in this context."""
    for frame in _frames.get():
        if frame.place == "place" and frame.owner is owner and not frame.ended:
            assert isinstance(frame, PlaceFrame)
            return frame
    return None


def at_primary_here(owner: object) -> bool:
    """Return whether this context is in a call through the ``on_primary`` of `owner`."""
    frame = place_here(owner)
    return frame is not None and frame.at_primary


@contextmanager
def outside_places(owner: object) -> Iterator[None]:
    """Return a context manager in which no call through a place of `owner` is in force."""
    # Keep the old value until set() has returned, see `put_in_force`.
    before = _frames.get()
    token = _frames.set(tuple([one for one in before if one.place != "place" or one.owner is not owner]))
    try:
        yield
    finally:
        _frames.reset(token)


def pinning(owner: Owner) -> Frame | None:
    """Return the frame that keeps reads here on one node: the outermost such scope, else the unit of work.

    Returns None if there is neither. Scopes inside that scope use its node too.
    """
    found = None
    # No generator here or below: a read in a scope asks several times, and a generator costs the most of it.
    for frame in _frames.get():
        if frame.owner is owner and not frame.ended and frame.place not in ("primary", "place"):
            found = frame
    if found is None and owner.units is not None:
        return owner.units.frame()
    return found


def keeping(owner: Owner) -> list[Frame]:
    """Return the frames that keep to one node here: that of `pinning`, and the unit of work around it."""
    pin = pinning(owner)
    if pin is None:
        return []
    unit = None if owner.units is None else owner.units.frame()
    return [pin] if unit is None or unit is pin else [pin, unit]


def selecting(owner: object) -> Selector:
    """Return which nodes the scopes of `owner` in force here accept."""
    # Each frame's selector includes those around it.
    for frame in _frames.get():
        if frame.selector and frame.owner is owner and not frame.ended:
            return frame.selector
    return ()


def tightest_lag(owner: object) -> float | None:
    """Return the smallest ``readonly(max_lag=…)`` of `owner` in force here, in seconds, or None."""
    bounds = [frame.max_lag for frame in _of(owner) if frame.max_lag is not None]
    return min(bounds) if bounds else None


def snapshotting(owner: object) -> Frame | None:
    """Return the innermost ``readonly(snapshot=True)`` of `owner` that is in force in this context."""
    for frame in _frames.get():
        if frame.snapshot is not None and frame.owner is owner and not frame.ended:
            return frame
    return None


def causal(owner: object) -> Frame | None:
    """Return the innermost ``causal_session()`` of `owner` that is in force in this context."""
    for frame in _frames.get():
        if frame.session is not None and frame.owner is owner and not frame.ended:
            return frame
    return None


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
    """The units of work of one database. Each has a frame of its own and keeps to one node.

    A unit of work is what a thread or task does between two calls of ``close()``.

    Parameters:
        owner: the database's identity.
        here: distinguishes threads or tasks.
    """

    def __init__(self, owner: Owner, here: Here) -> None:
        self._owner = owner
        self._local = here.local()

    def frame(self) -> Frame:
        """Return the frame of the current unit of work."""
        found: Frame | None = getattr(self._local, "frame", None)
        if found is None:
            found = self._local.frame = Frame(self._owner, "unit")
        return found

    def end(self) -> None:
        """End the current unit of work; the next one picks its own node."""
        self._local.frame = None


class Steps:
    """Puts a frame in force for each step of something that runs in steps, such as a generator.

    After each step the context is as it was before. Scopes that a step entered and did not leave are in
    force again in the next step, and only there.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._inner: tuple[Frame, ...] = ()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Return a context manager around one step."""
        before = _frames.get()
        token = _frames.set((*self._inner, self._frame, *_live(before)))
        try:
            yield
        finally:
            after = _frames.get()
            try:
                _frames.reset(token)
            except ValueError:
                pass  # an event loop closes an abandoned generator in another context: do not change that
            else:
                outer = (self._frame, *before)
                self._inner = tuple(frame for frame in after if frame not in outer)
