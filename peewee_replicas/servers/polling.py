"""Whether something can be read from a socket, without a round trip."""

from __future__ import annotations

import select
from typing import Any


def poll_for(sock: Any) -> Any:
    """A callable that is given milliseconds to wait, and tells whether something can be read from `sock`."""
    if not hasattr(select, "poll"):  # Windows
        return lambda _timeout: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll.poll
