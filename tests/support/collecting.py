"""Collects what a test leaves to the garbage collector, so that no later test is warned of it."""

from __future__ import annotations

import gc
import warnings


def collect_quietly() -> None:
    """Collect garbage now, without the warnings of connections that nobody has closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
