"""The page: what was found, section by section, with its pictures, and which aims were met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import tables

try:
    from . import plots
except ImportError as exc:  # tables can be had without matplotlib
    plots = None  # type: ignore[assignment]  # a module that is not there
    WHY = str(exc)

HEAD = """\
# Results

<!-- Written by scripts/bench; what is changed here by hand is lost. How it is measured: index.md -->

"""
TITLES = {
    "overhead": "Overhead per read and per write",
    "comparison": "Beside what people would use instead",
    "scaling": "Scaling with replicas",
    "over_time": "The tail, when a replica fails",
    "price": "The price of consistency",
    "growth": "Cost of growing",
}
AIMS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "overhead": tables.overhead_aims,
    "scaling": tables.scaling_aims,
    "growth": tables.growth_aims,
}
CAPTIONS = {
    "overhead": "Medians, quartiles (wide) and the 95 % interval of the median (thin).",
    "peers": "What each tool costs and keeps.",
    "peers-over-time": "The longest read in each quarter of a second.",
    "scaling": "Capacity by replicas, and what it leaves for writes.",
    "tail": "One of three replicas fails at 0 s; the policies read at the same time, each some 200 times "
    "in half a second, of which the longest is the 99.9th percentile.",
    "price": "Consistency against the share of writes and lag.",
    "growth": "Routing alone, without servers.",
}


def write(results: dict[str, Any], output: Path) -> None:
    """Make the page and its pictures from the results, in one folder."""
    about, sections = results["about"], results["sections"]
    parts = [HEAD + _about(about, sections)]
    aims = [
        line
        for name, tell in AIMS.items()
        for line in _guarded(lambda name=name, tell=tell: tell(sections[name]["found"]), [])
        if name in sections
    ]
    if aims:
        parts.append("## Aims\n\n" + "\n".join(f"- {line}" for line in aims))
    for name, title in TITLES.items():
        section = sections.get(name)
        if section is None:
            continue
        text = [f"## {title}"]
        if section["failure"]:
            text.append(f"**Not measured to the end:** {section['failure']}")
        for picture in _drawn(name, section["found"], output, text):
            text.append(
                f"![{CAPTIONS[picture]}]({picture}.png)\n\n{CAPTIONS[picture]} [As SVG]({picture}.svg)"
            )
        tell: Callable[[dict[str, Any]], str] = getattr(tables, name)
        text.append(_guarded(lambda tell=tell, section=section: tell(section["found"]), ""))
        parts.append("\n\n".join(part for part in text if part))
    (output / "results.md").write_text("\n\n".join(parts) + "\n")


def _about(about: dict[str, Any], sections: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    seconds = about.get("seconds") or sum(section["seconds"] for section in sections.values())
    text = (
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['system']}, "
        f"{about['python']}, {versions}. The run took {seconds / 60:.1f} minutes."
    )
    if about["quick"]:
        text = f"**The short form, which shows that everything works: its numbers mean nothing.**\n\n{text}"
    return text


def _drawn(name: str, found: dict[str, Any], output: Path, text: list[str]) -> list[str]:
    if plots is None:
        text.append(f"No pictures: {WHY}")
        return []
    try:
        drawn: list[str] = getattr(plots, name)(found, output)
    except Exception as exc:  # a section that was cut short may lack what its picture shows
        text.append(f"No picture: {type(exc).__name__}: {exc}")
        return []
    return drawn


def _guarded(tell: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return tell()
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        return otherwise or (f"Incomplete: {type(exc).__name__}: {exc}" if otherwise == "" else otherwise)
