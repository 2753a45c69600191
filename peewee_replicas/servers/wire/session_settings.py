"""The library's own settings of a new session: what turns the server's reports on, and the guard."""

from __future__ import annotations

from typing import Protocol

from pymysql import err

from ..error_meanings import in_words, meaning
from ..protocols import ServerDialect
from .session import SESSION_STATE_CHANGED

_REFUSALS = frozenset({"statement", "missing", "refused"})


class Beginner(Protocol):
    """A connection whose session begins.

    Attributes:
        guarded: whether the server is asked to refuse writes.
        tracks: whether the server reports positions and session changes.
        untracked: why it does not, in words; or ``""``.
        server_status: the status that the server sent last.
    """

    guarded: bool
    tracks: bool
    untracked: str
    server_status: int

    def run_command(self, sql: str) -> None:
        """Send a statement that returns no rows."""


def own_settings(dialect: ServerDialect, *, tracks: bool, guarded: bool) -> str:
    """Return the assignments for one SET that a new session needs, or ``""``.

    Parameters:
        tracks: whether the server offers to report positions and session changes.
        guarded: whether it is to refuse writes.
    """
    settings = list(dialect.TRACKERS) if tracks else []
    if guarded:
        settings.append(dialect.READ_ONLY)
    return ", ".join(settings)


def set_session(conn: Beginner, settings: str, least: str = "") -> None:
    """Send one SET. If the server refuses the trackers, go on without them, but never without the guard.

    Parameters:
        settings: the assignments.
        least: those among them that are not the library's own; the server's error for them is raised.
    """
    try:
        conn.run_command(f"SET {settings}")
    except err.MySQLError as exc:
        # Proxies refuse variables with numbers of their own, so only errors about the node count.
        if not exc.args or meaning(type(exc).__name__, exc.args) not in _REFUSALS:
            raise
        if least:
            conn.run_command(f"SET {least}")
        if conn.guarded:
            conn.run_command("SET SESSION TRANSACTION READ ONLY")
        if conn.tracks:  # otherwise it was a setting of the user's, accepted now
            conn.tracks = False
            conn.untracked = in_words(exc)
        return
    if conn.tracks and not conn.server_status & SESSION_STATE_CHANGED:
        # Servers answer these settings with their first report. Still read reports, should some come.
        conn.untracked = "it accepts the settings that turn reports on, and sends none"
