"""The two forms that a test can run in: the synchronous one, and asyncio.

A module whose tests hold for both says ``pytestmark = pytest.mark.usefixtures("form")``. The fixture `form`
runs each of them once as it stands, and once as a task of an event loop (`in_loop`).
"""

from __future__ import annotations

import pytest


def threads_only(reason: str) -> pytest.MarkDecorator:
    """Keep a test of such a module out of the asyncio form; the reason is for the reader."""
    assert reason
    return pytest.mark.parametrize("form", ["threads"], indirect=True)
