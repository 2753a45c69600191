"""Says why a node was never seen to reach a position of the primary's. No I/O, no clock."""

from __future__ import annotations

from ..positions import MySQLPosition, Position

_SHOWN = 60  # characters of a position


def why_unreached(reached: Position, primary: Position) -> str:
    """Return in words, with the remedy, why a position covers none of the primary's sampled positions.

    Parameters:
        reached: the node's position.
        primary: the oldest position of the primary that was sampled; `reached` does not cover it.
    """
    if type(reached) is not type(primary):
        return (
            f"is another kind of server: its position ({_shown(reached)}) cannot be compared with the "
            f"primary's ({_shown(primary)}); list replicas of this primary only"
        )
    if reached.is_empty:
        return (
            f"has applied nothing that carries a GTID, and the primary has {_shown(primary)}: it is new, or "
            "does not replicate from the primary; look at SHOW REPLICA STATUS there"
        )
    there, wanted = _last_by_source(reached), _last_by_source(primary)
    absent = sorted(wanted.keys() - there.keys())
    if len(absent) == len(wanted):
        return (
            f"has nothing of the primary's history: it has {_shown(reached)}, and the primary "
            f"{_shown(primary)}; does it follow another primary?"
        )
    if absent:
        return (
            f"has none of the primary's transactions of {_listed(absent)}: it filters them, or was copied "
            f"without them; make {_initial(reached)} right there, or copy it anew"
        )
    if all(there[source] >= number for source, number in wanted.items()):
        return (
            f"lacks earlier transactions of the primary's, although it has later ones ({_shown(reached)}): "
            f"it was probably copied without setting {_initial(reached)}; set that to what the copy contained"
        )
    return (
        f"is behind: it has {_shown(reached)}, and not yet what the primary had when this program first "
        f"looked ({_shown(primary)})"
    )


def _last_by_source(position: Position) -> dict[str, int]:
    """Return the last number of each source: of a server on MySQL, of a domain on MariaDB."""
    by_domain = not isinstance(position, MySQLPosition)
    found: dict[str, int] = {}
    for source, (_, last) in position.spans().items():
        found[f"domain {source.partition('-')[0]}" if by_domain else source] = last
    return found


def _initial(position: Position) -> str:
    """Return the variable that tells a new replica what its copy contains."""
    return "gtid_purged" if isinstance(position, MySQLPosition) else "gtid_slave_pos"


def _listed(sources: list[str]) -> str:
    text = ", ".join(sources)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _shown(position: Position) -> str:
    text = position.text() or "nothing"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
