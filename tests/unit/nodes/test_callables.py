"""Which arguments a program's own callable takes, also where a decorator wraps it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

from peewee_replicas.nodes.callables import takes_database, takes_refused, why_not_callable


def wrapping(wrapped: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator's function, as `functools.wraps` leaves it."""
    return functools.update_wrapper(own, wrapped)


def passing_on(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    return wrapping(wrapped, lambda *args, **kwargs: wrapped(*args, **kwargs))


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (lambda one: one, True),
        (lambda: None, False),
        (lambda one, two: one, False),
        (wrapping(lambda one, two: one, lambda one: one), True),
        (wrapping(lambda one: one, lambda: None), False),
        (passing_on(lambda one: one), True),
        (functools.cache(lambda one: one), True),
        (max, True),
    ],
)
def test_only_the_outermost_function_is_called(given: Any, fits: bool) -> None:
    assert (why_not_callable(given, "value") == "") is fits


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        (lambda node, refused: "", True),
        (passing_on(lambda node, refused: ""), True),
        (passing_on(lambda node: ""), False),
        (wrapping(lambda node, refused: "", lambda node: ""), False),
        (wrapping(lambda node: "", lambda node, refused: ""), True),
        (functools.cache(lambda node, refused: ""), True),
    ],
)
def test_a_password_is_told_of_a_refusal_only_if_all_of_it_takes_that(given: Any, takes: bool) -> None:
    assert takes_refused(given) is takes


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        (lambda db: [], True),
        (lambda db=None: [], False),
        (passing_on(lambda db: []), True),
        (passing_on(lambda: []), False),
        (wrapping(lambda client: [], lambda: []), False),
        (wrapping(lambda: [], lambda db: []), True),
        (functools.cache(lambda db: []), True),
    ],
)
def test_the_database_is_given_to_what_needs_it(given: Any, takes: bool) -> None:
    assert takes_database(given) is takes


@pytest.mark.skipif(sys.version_info < (3, 14), reason="older releases do not defer annotations")
def test_annotations_may_name_what_does_not_exist_at_run_time() -> None:
    names: dict[str, Any] = {}
    exec(compile("def ask(node: Missing, refused: Missing) -> Missing: ...", "", "exec", 0, True), names)
    assert why_not_callable(names["ask"], "node", refused=False) == ""
    assert takes_refused(names["ask"])
    assert takes_database(names["ask"])
