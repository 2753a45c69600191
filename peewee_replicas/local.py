"""Who runs now: a thread, or in the asyncio form a task; and what is kept for each of them apart."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any, Protocol


class Here(Protocol):
    """How a form of the library tells those apart that run at the same time.

    Attributes:
        word: what one of them is called in messages.
    """

    word: str

    def current(self) -> Hashable:
        """Who runs now."""

    def local(self) -> Any:
        """An object whose attributes each of them has apart, as `threading.local` gives it."""


class Threads:
    """Each thread is somebody of its own."""

    word = "thread"
    current = staticmethod(threading.get_ident)
    local = staticmethod(threading.local)


THREADS: Here = Threads()
