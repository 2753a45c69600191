"""Runs one request's sessions, from the bookmarks that came with it to those sent with its response."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar, cast

from peewee import Proxy

from peewee_replicas import bookmarks
from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency.sessions import Session
from peewee_replicas.databases.counting import Block
from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.databases.routed_members import members_of
from peewee_replicas.errors import BookmarkError, ConfigurationError
from peewee_replicas.events import Counters
from peewee_replicas.log import log_event
from peewee_replicas.scopes.frames import Frame, Steps
from peewee_replicas.servers.error_meanings import in_words
from peewee_replicas.statements.redaction import shown

from .cookies import Found, Secrets, Terms, labelled, until_of, until_text, with_vary

A = TypeVar("A")

# More intervals than this make a bookmark of about 2,000 characters, and proxies limit headers.
_GAPS = 200


class Visit:
    """One database in one request.

    Parameters:
        label: the database's label.
        database: the database.
        frame: the request's ``causal_session()`` on it.

    Attributes:
        session: what the request's reads must see.
        failed: whether the primary was asked and did not answer; it is not asked again.
    """

    __slots__ = ("_began", "_counts", "_stuck", "database", "failed", "label", "session")

    def __init__(self, label: str, database: Replicated, frame: Frame) -> None:
        self.label = label
        self.database = database
        self.session = cast(Session, frame.session)
        self.failed = False
        session = self.session
        self._began = session.seen
        self._stuck = session.sticky_until
        self._counts = session.additions, session.restarts

    @property
    def owes(self) -> bool:
        """Whether the primary must be asked before the bookmark is known."""
        return self.session.owes and not self.failed

    def ask(self) -> None:
        """Ask the primary for its position, and close the database again if it was closed before."""
        was_closed = self.database.is_closed()
        try:
            members_of(self.database).parts.consistency.pay(self.session)
        finally:
            if was_closed and not self.database.is_closed():
                self.database.close()

    def bookmark(self) -> str | None:
        """Return the bookmark of what the visitor must see from now on; None if there is nothing new.

        On servers without GTIDs, return the time until which the visitor's reads stay on the primary.
        """
        session, (additions, restarts) = self.session, self._counts
        if session.owes:  # the primary has not reported its position
            return bookmarks.encode(None, str(self.database.database), Clock.wall())
        seen, began = session.seen, self._began
        # What the session inherited from this process is no write of the visitor's: it needs no new bookmark.
        if session.additions == additions and session.restarts == restarts:
            return None
        # A lost position must not come back with the next request, even if its numbers look lower.
        comparable = session.restarts == restarts and type(began) is type(seen)
        if seen is not None and not (comparable and began is not None and began.covers(seen)):
            short = seen if seen.size <= _GAPS else seen.filled()
            return bookmarks.encode_within_limit(short, str(self.database.database), Clock.wall())
        if session.sticky_until > self._stuck:
            return until_text(Clock.wall() + session.sticky_until - Clock.monotonic())
        return None


class Request:
    """The scopes of one request, put in force while its work is done.

    Parameters:
        visits: its databases.
        frames: its scopes.
        blocks: what counts its executions, by the database's label; empty if nothing is counted.
    """

    def __init__(self, visits: list[Visit], frames: list[Frame], blocks: dict[str, Block]) -> None:
        self.visits = visits
        self.blocks = blocks
        self._frames = frames
        self._steps = [Steps(frame) for frame in frames]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Put the scopes in force for one step of the work, and restore the context afterwards."""
        with ExitStack() as stack:
            for steps in self._steps:
                stack.enter_context(steps.step())
            for block in self.blocks.values():
                stack.enter_context(block.step())
            yield

    def end(self) -> None:
        """End the request's scopes, in whichever contexts they are still in force."""
        for frame in self._frames:
            frame.end()
        for block in self.blocks.values():
            block.end()

    def server_timing(self) -> str:
        """Return the value of a ``Server-Timing`` header with what was executed so far."""
        return ", ".join(
            block.counts.server_timing(f"db-{label}" if label else "db")
            for label, block in self.blocks.items()
        )


class Carrier:
    """Carries bookmarks for both kinds of middleware; holds the databases, the settings and the counters.

    Parameters:
        databases: a database, a proxy, or a dict of these by label.
        terms: the settings for carrying bookmarks.
        server_timing: whether responses carry a ``Server-Timing`` header.
    """

    def __init__(self, databases: object, terms: Terms, *, server_timing: bool = False) -> None:
        if not isinstance(server_timing, bool):
            raise ConfigurationError(f"server_timing={shown(server_timing)}: allowed are True and False")
        self._counts = server_timing
        self._databases = labelled(databases)
        for database in self._databases.values():
            if not isinstance(database, Replicated | Proxy):
                raise ConfigurationError(
                    f"databases: a {type(database).__name__} is none of peewee_replicas' databases"
                )
        terms.check_labels(self._databases)
        self.terms = terms
        self.counters = Counters("requests", "taken", "refused", "sent", "unsent")

    def begin(self, method: str, cookies: str, header: Callable[[str], str]) -> Request:
        """Begin a request.

        Parameters:
            method: the request's method.
            cookies: its ``Cookie`` header, or ``""``.
            header: returns the value of another header by name, or ``""``.

        Raises:
            ConfigurationError: a proxy is not initialized with one of this package's databases yet.
            ReadOnlyViolation: the request has to run inside ``readonly()``, and a transaction is open here.
        """
        self.counters.add("requests")
        visits, frames = [], []
        try:
            for label, given in self._databases.items():
                database = resolved(given)
                name = self.terms.header_of(label)
                found = self.terms.open(label, cookies, header(name) if name else "")
                frame = self._frame(database, found)
                frames.append(frame)
                visits.append(Visit(label, database, frame))
                if method in self.terms.readonly:
                    frames.append(members_of(database).scopes.enter_readonly())
        except BaseException:
            for frame in frames:
                frame.end()
            raise
        blocks = {}
        if self._counts:
            blocks = {visit.label: members_of(visit.database).reports.counting.begin() for visit in visits}
        return Request(visits, frames, blocks)

    def _frame(self, database: Replicated, found: Found) -> Frame:
        members = members_of(database)
        scopes = members.scopes
        positions, refused, stuck = [], found.refused, 0.0
        for text in found.texts:
            try:
                until = until_of(text)
                if until is None:
                    positions.append(scopes.position_of(text, self.terms.max_age))
                else:
                    stuck = max(stuck, until - Clock.wall())
            except BookmarkError as exc:
                refused.append(str(exc))
        frame = scopes.causal_frame(positions, apart=True)
        if stuck > 0:
            seconds = min(stuck, members.parts.router.settings.sticky_seconds)
            cast(Session, frame.session).stick(Clock.monotonic() + seconds)
        if positions or stuck > 0:
            self.counters.add("taken")
        for reason in refused:
            self.counters.add("refused")
            log_event(
                "bookmark_ignored",
                "a bookmark that came with a request is ignored: %s",
                reason,
                cause=reason,
            )
        return frame

    def ask(self, request: Request) -> None:
        """Ask the primaries, so that the bookmarks are known. Blocks, so never call it in an event loop."""
        for visit in request.visits:
            if visit.owes:
                with self.asking(visit):
                    visit.ask()

    @contextmanager
    def asking(self, visit: Visit) -> Iterator[None]:
        """Note whether the primary answers within this block; `Consistency` logs it if there is no answer."""
        try:
            yield
        except Exception as exc:
            self.failed(visit, exc)
            return
        if visit.session.owes:
            visit.failed = True
            self.counters.add("unsent")

    def failed(self, visit: Visit, exc: Exception) -> None:
        """Log that a response's position is unknown. Raise nothing, because its writes may be committed."""
        visit.failed = True
        self.counters.add("unsent")
        log_event(
            "bookmark_unsent",
            "the position in %r is not known for a response, so the visitor's next request reads what the "
            "primary has then: %s",
            visit.database.database,
            in_words(exc),
            node="primary",
            cause=in_words(exc),
            exc_info=exc,
        )

    def added(self, request: Request, headers: list[tuple[str, str]], https: bool) -> list[tuple[str, str]]:
        """Return the headers of a response, with the bookmarks that are known, and the counts."""
        for visit in request.visits:
            text = visit.bookmark()
            if text is not None:
                self.counters.add("sent")
                sealed = self.terms.seal(visit.label, text, https)
                headers = with_vary([*headers, *sealed], self.terms.vary(visit.label))
        if request.blocks:
            headers = [*headers, ("Server-Timing", request.server_timing())]
        return headers


class Middleware(Generic[A]):
    """The base of the WSGI and the ASGI middleware.

    Parameters:
        app: the application.
        databases: a database, a proxy for one, or a dict of these by label.
        secret: the key that signs bookmarks, 16 bytes or more; of several, the first signs, all are accepted.
        cookie: the cookie's name; with labels, ``_label`` is added. None: no cookie.
        header: a header's name, in requests and responses; with labels, ``-label`` is added. None: no header.
        max_age: seconds after which a bookmark is dropped, at most a day. Choose more than replicas ever lag.
        secure: the cookie's ``Secure``; None: set for https requests.
        same_site: the cookie's ``SameSite``: ``"Lax"``, ``"Strict"`` or ``"None"``.
        domain: the cookie's ``Domain``; None: only the host.
        path: the cookie's ``Path``.
        readonly: the methods whose requests run inside ``readonly()``; True: GET, HEAD and OPTIONS.
        server_timing: whether to add a ``Server-Timing`` header to each response, with the time and the
            number of statements on replicas and on the primary until then. Clients can see it.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(
        self,
        app: A,
        databases: object,
        *,
        secret: Secrets,
        cookie: str | None = "replication_bookmark",
        header: str | None = None,
        max_age: float = 3600,
        secure: bool | None = None,
        same_site: str = "Lax",
        domain: str | None = None,
        path: str = "/",
        readonly: bool | Iterable[str] = False,
        server_timing: bool = False,
    ) -> None:
        self.app = app
        terms = Terms(
            secret=secret, cookie=cookie, header=header, max_age=max_age, secure=secure,
            same_site=same_site, domain=domain, path=path, readonly=readonly,
        )  # fmt: skip
        self.carrier = Carrier(databases, terms, server_timing=server_timing)

    def stats(self) -> dict[str, int]:
        """Return the counters: ``requests``, and bookmarks ``taken``, ``refused``, ``sent``, ``unsent``."""
        return self.carrier.counters.snapshot()


def resolved(given: object) -> Replicated:
    """Return a database, or a proxy's database.

    Raises:
        ConfigurationError: the proxy's database is not one of this package.
    """
    if not isinstance(given, Proxy):
        return given  # type: ignore[return-value]  # `Carrier` has checked it
    if not isinstance(given.obj, Replicated):
        raise ConfigurationError(
            f"the proxy stands for a {type(given.obj).__name__}; "
            "initialize() it with one of peewee_replicas' databases"
        )
    return given.obj
