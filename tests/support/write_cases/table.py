"""The registry of the cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Then(NamedTuple):
    """The read that follows the work of a case.

    Attributes:
        read: the read.
        answer: what it has to give.
        plain: whether it does nothing but read, so that it can be seen to be stale at level eventual.
    """

    read: Callable[[], Any]
    answer: Any
    plain: bool = True


Case = Callable[[Any, Any], Then]
CASES: dict[str, Case] = {}
OPTIONS: dict[str, dict[str, Any]] = {}


def case(**options: Any) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[function.__name__] = function
        OPTIONS[function.__name__] = options
        return function

    return add
