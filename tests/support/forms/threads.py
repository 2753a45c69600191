"""Runs work in new threads, and raises here what it raises there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

instead: Callable[[int, Callable[[], Any]], list[Any]] | None = None
"""What takes the place of threads while a test runs in an event loop."""


def in_thread(work: Callable[[], Any]) -> Any:
    """The result of `work` in a new thread."""
    return in_threads(1, work)[0]


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """The results of `work` in `count` threads that start at the same time."""
    if instead is not None:
        return instead(count, work)
    start = threading.Barrier(count)
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            start.wait(60)
            found.append(work())
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found
