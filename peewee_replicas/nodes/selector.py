"""Which nodes a scope accepts, by their tags or their name. Makes decisions only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Protocol, TypeVar

from ..scopes.frames import Selector
from ..statements.redaction import shown
from .spec import Fail
from .tags import Tags, check_tags


class Tagged(Protocol):
    """The part of a node that a selector uses."""

    name: str
    tags: Tags


N = TypeVar("N", bound=Tagged)

# Stands for a node's name among its tags; no tag has an empty name.
_NAME = ""


def selector_from(tags: object, node: object, fail: Fail) -> Selector:
    """Return the selector for the arguments ``tags`` and ``node`` of a ``readonly()``, checked.

    Parameters:
        tags: a dict of tags, or a list of dicts tried in order; None: any.
        node: the name of one node; None: any.
        fail: turns a message into the exception to raise.
    """
    if node is not None and (not isinstance(node, str) or not node):
        raise fail(f"node={shown(node)}: the name of a replica is wanted")
    if node == "primary":
        raise fail("node='primary': no replica has this name; primary() sends reads to the primary")
    alternatives = [frozenset(each.items()) for each in _dicts(tags, fail)]
    if node is not None:
        alternatives = [each | {(_NAME, node)} for each in alternatives]
    # From the first that accepts any node on, the others have no effect.
    anything = frozenset[tuple[str, str]]()
    return () if alternatives[0] == anything else tuple(dict.fromkeys(alternatives))


def _dicts(tags: object, fail: Fail) -> list[Tags]:
    if tags is None:
        return [{}]
    if isinstance(tags, Sequence) and not isinstance(tags, str):
        if not tags:
            raise fail("tags=[]: a list of dicts is wanted; it is empty, and {} stands for any node")
        return [check_tags(each, f"tags[{place}]", fail, from_url=False) for place, each in enumerate(tags)]
    return [check_tags(tags, "tags", fail, from_url=False)]


def narrowed(outer: Selector, inner: Selector) -> Selector:
    """Return the selector of a scope inside another: its nodes have to satisfy both, the outer one first."""
    if not (outer and inner):
        return outer or inner
    return tuple(dict.fromkeys(one | other for one, other in product(outer, inner)))


def without_tags(selector: Selector) -> Selector:
    """Return the selector reduced to names, for nodes that have no tags to differ by."""
    names = [frozenset(pair for pair in each if pair[0] == _NAME) for each in selector]
    return tuple(dict.fromkeys(names)) if names and names[0] else ()


def accepts(selector: Selector, node: Tagged) -> bool:
    """Return whether a node satisfies any of the selector's alternatives."""
    has = _pairs(node)
    return not selector or any(wanted <= has for wanted in selector)


def among(nodes: tuple[N, ...], selector: Selector) -> tuple[N, ...]:
    """Return the nodes that satisfy the first alternative that any of them satisfies."""
    if not selector:
        return nodes
    pairs = [(node, _pairs(node)) for node in nodes]
    for wanted in selector:
        found = tuple(node for node, has in pairs if wanted <= has)
        if found:
            return found
    return ()


def _pairs(node: Tagged) -> frozenset[tuple[str, str]]:
    return frozenset({*node.tags.items(), (_NAME, node.name)})


def in_words(selector: Selector) -> str:
    """Return the selector for a message, as ``nodes with use=report and zone=a, or any node``."""
    return ", or ".join(_alternative(each) for each in selector)


def _alternative(wanted: Iterable[tuple[str, str]]) -> str:
    pairs = sorted(wanted)
    names = " and ".join(f"node {name!r}" for key, name in pairs if key == _NAME)
    tags = " and ".join(f"{name}={content}" for name, content in pairs if name != _NAME)
    which = names or ("nodes" if tags else "any node")
    return f"{which} with {tags}" if tags else which
