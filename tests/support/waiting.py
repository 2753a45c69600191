"""Waits for conditions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 20.0, pause: float = 0.01) -> None:
    """Wait until the condition holds; fail if it does not within this many seconds.

    Parameters:
        pause: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        tick.wait(pause)
