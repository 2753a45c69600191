"""The primary's states are events, each told once per change, whoever finds it out.

The members are the callers of `NodeNews.tell_of_primary()`: the prober that gets no answer, the prober that
gets one, a write that was refused as read-only, and a write that succeeded. Servers show them in
`tests/servers/nodes/test_whom_replicas_follow.py` and `test_prober.py`.
"""

from __future__ import annotations

from peewee_replicas.events import NodeEvent, NodeNews


def test_each_change_is_told_once() -> None:
    news = NodeNews()
    news.database = "app"
    told: list[NodeEvent] = []
    news.hooks.append(told.append)
    news.tell_of_primary("up", "")  # as it begins
    for state, cause in (("read_only", "by a write"), ("read_only", "by a probe"), ("down", "gone")):
        news.tell_of_primary(state, cause)  # type: ignore[arg-type]
    news.tell_of_primary("up", "")
    news.tell_of_primary("up", "")
    assert told == [
        NodeEvent("app", "primary", "read_only", "by a write"),
        NodeEvent("app", "primary", "down", "gone"),
        NodeEvent("app", "primary", "up", ""),
    ]


def test_a_hook_added_later_is_told_of_later_changes_only() -> None:
    news = NodeNews()
    news.tell_of_primary("down", "gone")
    told: list[NodeEvent] = []
    news.hooks.append(told.append)
    news.tell_of_primary("down", "gone")
    assert told == []
    news.tell_of_primary("up", "")
    assert [event.state for event in told] == ["up"]
