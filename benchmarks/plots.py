"""The results as pictures, each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from .tables import NAMES

OURS, PLAIN, THEIRS, WARN = "#1f6feb", "#6e7781", "#bc8cff", "#d1242f"
COLOURS = ("#1f6feb", "#e36209", "#2da44e", "#bc8cff", "#6e7781")
STYLE = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8c959f",
    "axes.labelcolor": "#24292f",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eaeef2",
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "benchmarks",
    "figure.facecolor": "white",
}


@contextmanager
def figure(
    folder: Path, name: str, rows: int, columns: int, size: tuple[float, float], **options: Any
) -> Iterator[Any]:
    """Axes to draw on, saved when the block is left."""
    with plt.rc_context(STYLE):
        made, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
        yield axes
        made.tight_layout()
        made.savefig(folder / f"{name}.png", dpi=92, metadata={"Software": None})
        made.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        plt.close(made)


def _dots(
    axis: Any, labels: Sequence[str], rows: Sequence[Any], offset: float, colour: str, name: str
) -> None:
    places = [len(labels) - 1 - number + offset for number in range(len(labels))]
    for place, spread in zip(places, rows, strict=False):
        if spread is not None:
            axis.plot([spread["low"], spread["high"]], [place, place], color=colour, lw=5, alpha=0.25)
            axis.plot([spread["from"], spread["to"]], [place, place], color=colour, lw=1.5)
    known = [
        (spread["median"], place) for place, spread in zip(places, rows, strict=False) if spread is not None
    ]
    axis.scatter(*zip(*known, strict=True), color=colour, s=28, zorder=3, label=name)


def _plain_numbers(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def overhead(found: dict[str, Any], folder: Path) -> list[str]:
    """Ratios of CPU and wall time, per server and kind of statement."""
    servers = [name for name, each in found.get("servers", {}).items() if "writes" in each]
    if not servers:
        return []
    with figure(folder, "overhead", len(servers), 2, (11, 0.6 + 3.1 * len(servers))) as axes:
        for line, name in enumerate(servers):
            for column, kind in enumerate(("reads", "writes")):
                axis, forms = axes[line][column], found["servers"][name][kind]
                labels = list(forms)
                _dots(axis, labels, [forms[form]["cpu"] for form in labels], 0.13, OURS, "CPU time")
                _dots(axis, labels, [forms[form]["wall"] for form in labels], -0.13, COLOURS[1], "wall time")
                axis.axvline(1.0, color="#24292f", lw=1)
                axis.axvline(1.01, color=WARN, lw=1, ls=":")
                shown = ("median", "low", "high")
                near = [
                    each[of][point]
                    for each in forms.values()
                    for of in ("cpu", "wall")
                    for point in shown
                    if each[of]["median"] < 1.6
                ]
                axis.set_xlim(min(0.9, min(near) - 0.02), max(1.1, max(near) + 0.02))
                right = axis.get_xlim()[1]
                for number, form in enumerate(labels):
                    if min(forms[form][of]["median"] for of in ("cpu", "wall")) > right:
                        text = ", ".join(f"{of} {forms[form][of]['median']:.2f}" for of in ("cpu", "wall"))
                        axis.text(right, len(labels) - 1 - number, f"{text} \u2192 ", ha="right", va="center")
                axis.set_yticks(range(len(labels)), [f"{form}  " for form in reversed(labels)])
                version = found["servers"][name]["version"]
                axis.set_title(f"{kind}, {NAMES[name]} {version}")
                axis.set_xlabel("relative to the same class without routing (dotted: 1.01)", fontsize=9)
                if not line and not column:
                    axis.legend(loc="lower right")
    return ["overhead"]


def _told(axis: Any, bars: Any, known: Sequence[bool], form: str) -> None:
    """Write at each bar what it is, also where it is nothing or could not be measured."""
    axis.bar_label(
        bars,
        [
            form.format(bar.get_width()) if told else "not measured"
            for bar, told in zip(bars, known, strict=True)
        ],
        padding=3,
        fontsize=7.5,
        color="#57606a",
    )
    axis.margins(x=0.22)


def comparison(found: dict[str, Any], folder: Path) -> list[str]:
    """Four numbers per peer; then the longest reads over time."""
    peers = list(found.get("peers", {}).values())
    if not any(isinstance(peer.get("pause"), dict) and "slots" in peer["pause"] for peer in peers):
        return []
    labels = [peer["name"] for peer in peers]
    colours = [OURS, *[PLAIN] * (len(peers) - 1)]
    places = list(reversed(range(len(peers))))

    def of(peer: dict[str, Any], step: str, name: str) -> Any:
        return (peer.get(step) or {}).get(name)

    with figure(folder, "peers", 1, 4, (13.5, 3.6), sharey=True) as (axes,):
        rows = [of(peer, "overhead", "cpu") for peer in peers]
        _dots(axes[0], labels, rows, 0.0, OURS, "")
        axes[0].axvline(1.0, color="#24292f", lw=1)
        axes[0].set_title("CPU of a read")
        axes[0].set_xlabel("relative to the same tool unrouted")
        axes[0].set_yticks(places, labels)
        for offset, step, colour in ((0.2, "stale 20", "#e3b341"), (-0.2, "stale 1000", WARN)):
            shares = [of(peer, step, "stale") or 0 for peer in peers]
            totals = [of(peer, step, "reads") or 1 for peer in peers]
            widths = [stale / total for stale, total in zip(shares, totals, strict=True)]
            late = "20 ms" if step.endswith("20") else "1 s"
            heights = [place + offset for place in places]
            bars = axes[1].barh(heights, widths, height=0.36, color=colour, label=f"{late} late")
            _told(axes[1], bars, [of(peer, step, "reads") is not None for peer in peers], "{:.0%}")
        axes[1].xaxis.set_major_formatter(PercentFormatter(1.0))
        axes[1].set_title("stale after own write")
        axes[1].set_xlabel("one of two replicas late")
        axes[1].legend(loc="upper right", fontsize=8)
        axes[1].set_xlim(0, 1.25)  # room for the legend
        axes[1].set_xticks([0, 0.25, 0.5, 0.75, 1])
        failed = [(of(peer, "kill", "failed") or 0) / (of(peer, "kill", "reads") or 1) for peer in peers]
        bars = axes[2].barh(places, failed, height=0.6, color=colours)
        _told(axes[2], bars, [of(peer, "kill", "reads") is not None for peer in peers], "{:.1%}")
        axes[2].xaxis.set_major_formatter(PercentFormatter(1.0))
        axes[2].set_title("failed, replica killed")
        axes[2].set_xlabel("of reads after kill -9 of one of two")
        longest = [(of(peer, "pause", "longest_ms") or 0) / 1000 for peer in peers]
        bars = axes[3].barh(places, longest, height=0.6, color=colours)
        _told(axes[3], bars, [of(peer, "pause", "reads") is not None for peer in peers], "{:.2f}")
        axes[3].set_title("longest read, paused")
        axes[3].set_xlabel(f"seconds; one of two paused for {found.get('paused_s', 0):g} s")
    _peers_over_time(peers, folder)
    return ["peers", "peers-over-time"]


def _peers_over_time(peers: Sequence[dict[str, Any]], folder: Path) -> None:
    with figure(folder, "peers-over-time", 2, 1, (13, 6.2), sharey=True) as axes:
        for (axis,), step, title in zip(axes, ("kill", "pause"), ("killed with -9", "paused"), strict=False):
            for number, peer in enumerate(peers):
                slots = (peer.get(step) or {}).get("slots")
                if not slots:
                    continue
                first = number == 0
                colour = OURS if first else plt.get_cmap("tab10")((number + 1) % 10)
                line = {"color": colour, "lw": 2.4 if first else 1.2, "zorder": 3 if first else 2}
                axis.plot(
                    [slot[0] for slot in slots], [slot[3] for slot in slots], label=peer["name"], **line
                )
                bad = [slot for slot in slots if slot[2]]
                axis.scatter(
                    [s[0] for s in bad], [s[3] for s in bad], color=colour, marker="x", s=24, zorder=4
                )
            axis.axvline(0, color=WARN, lw=1.2)
            axis.set_yscale("log")
            _plain_numbers(axis.yaxis)
            axis.set_ylabel("longest read, ms")
            axis.set_title(f"one of two replicas {title} at 0 s (crosses: reads failed)")
        axes[1][0].set_xlabel("seconds since the fault; each read at the time it began")
        axes[0][0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def scaling(found: dict[str, Any], folder: Path) -> list[str]:
    """Reads per second, and what writes wait for."""
    reads = found.get("reads", {})
    if not reads:
        return []
    with figure(folder, "scaling", 1, 2, (11, 3.8)) as (axes,):
        counts = [int(count) for count in reads if count != "0"]
        values = [reads[str(count)]["per_second"] for count in counts]
        alone = reads["0"]["per_second"]["median"]
        axes[0].plot(
            [0, *counts], [0, *(alone * count for count in counts)], color=PLAIN, ls="--", label="linear"
        )
        middles = [value["median"] for value in values]
        low = [value["median"] - value["low"] for value in values]
        high = [value["high"] - value["median"] for value in values]
        axes[0].errorbar(counts, middles, yerr=[low, high], color=OURS, marker="o", label="peewee_replicas")
        axes[0].axhline(alone, color=WARN, ls=":", label="primary only, plain peewee")
        axes[0].set_xticks(counts)
        axes[0].set_xlim(0.5, max(counts) + 0.5)
        axes[0].set_ylim(0)
        axes[0].set_xlabel("replicas")
        axes[0].set_title("reads per second")
        axes[0].legend(loc="upper left")
        writes = found.get("writes", {})
        places = list(reversed(range(len(writes))))
        axes[1].barh(
            [place + 0.2 for place in places],
            [each["p50_ms"] for each in writes.values()],
            height=0.36,
            color=OURS,
            label="median",
        )
        axes[1].barh(
            [place - 0.2 for place in places],
            [each["p99_ms"] for each in writes.values()],
            height=0.36,
            color=THEIRS,
            label="99th percentile",
        )
        axes[1].set_yticks(places, list(writes))
        axes[1].set_title("a write on the primary")
        axes[1].set_xlabel("milliseconds")
        axes[1].legend()
    return ["scaling"]


def over_time(found: dict[str, Any], folder: Path) -> list[str]:
    """Percentiles of the reads begun in each half second, with the moments of the fault."""
    faults = found.get("faults", {})
    if not faults:
        return []
    size = (13, 0.8 + 2.6 * len(faults))
    with figure(folder, "tail", len(faults), 3, size, sharex="col", sharey="row") as axes:
        for line, (fault, each) in enumerate(faults.items()):
            for axis, (column, title) in zip(
                axes[line], ((1, "median"), (2, "99th percentile"), (3, "99.9th percentile")), strict=False
            ):
                for colour, policy in zip(COLOURS, sorted(each["policies"]), strict=False):
                    slots = each["policies"][policy]["slots"]
                    times = [slot[0] for slot in slots]
                    axis.plot(times, [slot[column] for slot in slots], color=colour, label=policy, lw=1.4)
                axis.axvspan(0, each["healed_s"], color=WARN, alpha=0.06, lw=0)
                axis.axvline(0, color=WARN, lw=1)
                axis.axvline(each["healed_s"], color="#2da44e", lw=1, ls="--")
                axis.set_yscale("log")
                _plain_numbers(axis.yaxis)
                axis.set_title(f"replica {fault}: {title}, ms")
        for axis in axes[-1]:
            axis.set_xlabel("seconds since the fault (dashed: it ends)")
        axes[0][0].legend(fontsize=8)
    return ["tail"]


def price(found: dict[str, Any], folder: Path) -> list[str]:
    """Share of replicas and latency against the share of writes, for each lag."""
    cells = found.get("mixes", [])
    if not cells:
        return []
    lags = sorted({cell["lag_ms"] for cell in cells})
    strategies = list(dict.fromkeys(cell["strategy"] for cell in cells))
    with figure(folder, "price", 3, len(lags), (3.7 * len(lags), 7.6), sharex=True, sharey="row") as axes:
        for column, lag in enumerate(lags):
            for colour, strategy in zip(COLOURS, strategies, strict=False):
                mine = [cell for cell in cells if cell["lag_ms"] == lag and cell["strategy"] == strategy]
                writes = [cell["writes"] for cell in mine]
                line = {"color": colour, "marker": "o", "ms": 4, "label": strategy}
                axes[0][column].plot(writes, [cell["by_replicas"] for cell in mine], **line)
                axes[1][column].plot(writes, [cell["p95_ms"] for cell in mine], **line)
                stale = [cell["stale"] / max(1, cell["reads"]) for cell in mine]
                axes[2][column].plot(writes, stale, **line)
            axes[0][column].set_title(f"replicas {lag} ms late")
            axes[0][column].yaxis.set_major_formatter(PercentFormatter(1.0))
            axes[0][column].set_ylim(-0.04, 1.04)
            axes[1][column].set_yscale("log")
            _plain_numbers(axes[1][column].yaxis)
            axes[2][column].yaxis.set_major_formatter(PercentFormatter(1.0))
            axes[2][column].xaxis.set_major_formatter(PercentFormatter(1.0))
            axes[2][column].set_xlabel("share of writes")
        axes[0][0].set_ylabel("reads by replicas")
        axes[1][0].set_ylabel("95th percentile, ms")
        axes[2][0].set_ylabel("stale reads")
        axes[0][0].legend(fontsize=8)
    return ["price"]


def growth(found: dict[str, Any], folder: Path) -> list[str]:
    """Four kinds of growth."""
    if not found.get("distinct"):
        return []
    with figure(folder, "growth", 2, 2, (11, 7)) as axes:
        (replicas, threads), (length, number) = axes
        for colour, (name, each) in zip(COLOURS, found["replicas"].items(), strict=False):
            values = [each[count]["median"] / 1000 for count in each]
            replicas.plot([int(count) for count in each], values, color=colour, marker="o", ms=4, label=name)
        replicas.set_title("replicas: CPU to route one read, µs")
        for colour, kind in zip(COLOURS, ("cpu", "wall"), strict=False):
            values = [each[kind]["median"] / 1000 for each in found["threads"].values()]
            counts = [int(count) for count in found["threads"]]
            threads.plot(counts, values, color=colour, marker="o", ms=4, label=kind)
        threads.set_title("threads: time per read of all together, µs")
        for axis in (replicas, threads):
            axis.set_xscale("log", base=2)
            _plain_numbers(axis.xaxis)
            axis.set_ylim(0, 1.4 * axis.get_ylim()[1])  # room for the legend
        for colour, (name, each) in zip(COLOURS, found["length"].items(), strict=False):
            sizes = [int(size) for size in each["sizes"]]
            values = [spread["median"] / 1000 for spread in each["sizes"].values()]
            length.plot(sizes, values, color=colour, marker="o", ms=4, label=name)
        length.set_xscale("log")
        length.set_yscale("log")
        length.set_title("length of a new text (characters): CPU, ms")
        counts = [int(count) for count in found["distinct"]]
        megabytes = [each["kilobytes"] / 1024 for each in found["distinct"].values()]
        number.plot(counts, megabytes, color=OURS, marker="o", ms=4, label="memory, MB")
        times = [each["us"] for each in found["distinct"].values()]
        number.plot(counts, times, color=COLOURS[1], marker="o", ms=4, label="CPU for each, µs")
        number.set_xscale("log")
        number.set_ylim(0)
        number.set_title("different texts seen")
        for axis in axes.flat:
            axis.legend(fontsize=8)
    return ["growth"]
