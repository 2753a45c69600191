"""The results in words and numbers: one function per section, from what it found to Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

NAMES = {"mariadb": "MariaDB", "mysql": "MySQL"}
AIM = 1.01
AIM_LINEAR = 0.95


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def server(text: str) -> str:
    """A server's name as its makers write it."""
    kind, _, number = text.partition(" ")
    return f"{NAMES.get(kind, kind)} {number}".strip()


def ratio(spread: dict[str, Any] | None) -> str:
    """A median and its quartiles."""
    if spread is None:
        return ""
    return f"**{spread['median']:.3f}** ({spread['low']:.3f} to {spread['high']:.3f})"


def whole(value: float) -> str:
    """A number with as many digits as tell something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


_TITLES = {
    "reads": "Reads by primary key",
    "writes": "Updates by primary key, no commit flushed to disk,",
    "flushed writes": "Updates by primary key, every commit flushed to disk as the server does by default,",
}


def overhead(found: dict[str, Any]) -> str:
    """Ratios per server, kind and form."""
    parts = []
    for kind, title in _TITLES.items():
        for name, each in found.get("servers", {}).items():
            if kind not in each:
                continue
            rows = [
                (
                    form,
                    measured["base"],
                    ratio(measured["cpu"]),
                    ratio(measured["wall"]),
                    f"{measured['cpu_us'] - measured['base_cpu_us']:+.1f} µs",
                )
                for form, measured in each[kind].items()
            ]
            rounds = next(iter(each[kind].values()))["cpu"]["rounds"]
            head = ("form", "held against", "CPU", "wall", "CPU, difference of medians")
            parts.append(
                f"{title} on {NAMES[name]} {each['version']}; medians of {rounds} paired rounds, quartiles:"
                "\n\n" + table(head, rows)
            )
    for name, each in found.get("servers", {}).items():
        if "idle_ms" in each:
            parts.append(
                f"A database that nobody uses, with one replica on {NAMES[name]}, takes "
                f"{each['idle_ms']:.2f} ms of CPU per second for its probes."
            )
    for name, forms in found.get("asynchronous", {}).items():
        if "failed" in forms:
            parts.append(f"Under asyncio on {NAMES[name]}: {forms['failed']}")
            continue
        rows = [(form, each["base"], ratio(each["cpu"]), ratio(each["wall"])) for form, each in forms.items()]
        parts.append(
            f"Reads and updates by primary key under asyncio on {NAMES[name]}, `AsyncReplicatedDatabase`:\n\n"
            + table(("form", "held against", "CPU", "wall"), rows)
        )
    rows = []
    for name, each in found.get("instructions", {}).items():
        if "failed" in each:
            parts.append(f"Instructions on {NAMES[name]}: {each['failed']}")
            continue
        for form, spread in each["ratios"].items():
            rows.append((f"{form}, {NAMES[name]}", ratio(spread), f"{each['each'][form]['median']:,.0f}"))
    if rows:
        parts.append(
            "Instructions of the client per statement (callgrind), which no other load moves:\n\n"
            + table(("form", "ratio to the same class of peewee", "instructions"), rows)
        )
    return "\n\n".join(parts)


def overhead_aims(found: dict[str, Any]) -> list[str]:
    """Whether a routed read and a write cost what they should."""
    lines = []
    for name, each in found.get("servers", {}).items():
        for kind, what in (
            ("reads", "reads"),
            ("flushed writes", "writes, flushed to disk,"),
            ("writes", "writes, not flushed,"),
        ):
            measured = each.get(kind, {}).get("session")
            if measured:
                cpu, wall = measured["cpu"], measured["wall"]
                # What a write takes of CPU is told too, but what would show is its time.
                worst = wall["median"] if kind == "flushed writes" else max(wall["median"], cpu["median"])
                lines.append(
                    f"{_met(worst <= AIM)} "
                    f"{what} at `session` on {NAMES[name]}: wall {wall['median']:.3f} "
                    f"(95 % interval {wall['from']:.3f} to {wall['to']:.3f}), CPU {cpu['median']:.3f} "
                    f"({cpu['from']:.3f} to {cpu['to']:.3f}); aim {AIM}"
                )
    return lines


def _met(yes: bool) -> str:
    return "**met**" if yes else "**not met**"


def comparison(found: dict[str, Any]) -> str:
    """A table for each server, with one row per peer, and what was measured of each."""
    parts = [part for each in (found, *found.get("others", ())) for part in _peers_of(each)]
    return "\n\n".join([*parts, _notes(found)])


def _peers_of(found: dict[str, Any]) -> list[str]:
    rows = []
    for peer in found.get("peers", {}).values():
        rows.append(
            (
                peer["name"],
                _or(peer.get("overhead"), lambda it: ratio(it["cpu"])),
                _or(peer.get("overhead"), lambda it: ratio(it["wall"])),
                _or(peer.get("mix"), lambda it: f"{share(it['nodes']):.0%}"),
                _or(peer.get("stale 20"), lambda it: f"{it['stale']} of {it['reads']}"),
                _or(peer.get("stale 1000"), lambda it: f"{it['stale']} of {it['reads']}"),
                _or(peer.get("kill"), lambda it: f"{it['failed']} of {it['reads']}"),
                _or(peer.get("pause"), lambda it: f"{it['at_risk']:.0%}"),
                _or(peer.get("pause"), lambda it: f"{it['longest_ms'] / 1000:.2f} s"),
                _or(peer.get("pause"), lambda it: str(it["failed"])),
            )
        )
    head = (
        "",
        "CPU of a read, routed / plain",
        "wall",
        "reads by replicas",
        "stale, one replica 20 ms late",
        "stale, one 1 s late",
        "reads failed, one replica killed",
        "reads on one before it is paused",
        f"longest read, it is paused for {found.get('paused_s', 0):g} s",
        "reads failed meanwhile",
    )
    failures = [
        f"- **{peer['name']}**, {step}: could not be measured: {failed}"
        for peer in found.get("peers", {}).values()
        for step in ("about", "overhead", "mix", "stale 20", "stale 1000", "kill", "pause")
        if isinstance(failed := (peer.get(step) or {}).get("failed"), str)
    ]
    parts = [f"{server(found.get('server', ''))}, HAProxy {found.get('haproxy', '')}.", table(head, rows)]
    return [*parts, "\n".join(failures)] if failures else parts


def _notes(found: dict[str, Any]) -> str:
    notes = []
    for peer in found.get("peers", {}).values():
        versions = ", ".join(f"{name} {number}" for name, number in peer.get("versions", {}).items())
        where = peer.get("documentation", "")
        notes.append(f"- **{peer['name']}**: {peer.get('form', '')} ({versions}; after {where}).")
    return "\n".join(notes)


def share(nodes: dict[str, int]) -> float:
    """Of reads that replicas served."""
    return 1 - nodes.get("0", 0) / max(1, sum(nodes.values()))


def _or(found: dict[str, Any] | None, tell: Any) -> str:
    if not found or isinstance(found.get("failed"), str):
        return "-"
    return str(tell(found))


def scaling(found: dict[str, Any]) -> str:
    """Reads per second by number of replicas, and latencies of writes."""
    reads = found.get("reads", {})
    if not reads:
        return ""
    rows = []
    for count, each in reads.items():
        spread = each["per_second"]
        per_second = spread["median"]
        rows.append(
            (
                "primary only, plain peewee" if count == "0" else f"{count} replica{'s' * (count != '1')}",
                f"{whole(per_second)} ({whole(spread['low'])} to {whole(spread['high'])})",
                ratio(each["of_linear"]),
                f"{whole(each['p99_ms'])} ms",
                str(each["threads"]),
                f"{each['client_cpu']:.2f}",
            )
        )
    head = ("", "reads per second", "of linear", "99th percentile", "threads", "CPUs of the clients")
    parts = [
        f"{server(found['server'])}; every node has one worker that needs {found['service_ms']:g} ms.",
        table(head, rows),
    ]
    if found.get("writes"):
        rows = [
            (name, f"{whole(each['p50_ms'])} ms", f"{whole(each['p99_ms'])} ms", str(each["writes"]))
            for name, each in found["writes"].items()
        ]
        parts.append(table(("a write on the primary while", "median", "99th percentile", "writes"), rows))
    return "\n\n".join(parts)


def scaling_aims(found: dict[str, Any]) -> list[str]:
    """How near to linear."""
    reads = found.get("reads", {})
    if not reads:
        return []
    most = max(reads, key=int)
    worst = min(each["of_linear"]["median"] for count, each in reads.items() if count != "0")
    return [
        f"{_met(worst >= AIM_LINEAR)} 1 to {most} replicas: {worst:.3f} of linear at the least; "
        f"aim {AIM_LINEAR}"
    ]


def over_time(found: dict[str, Any]) -> str:
    """Percentiles during each fault."""
    rows = []
    for fault, each in found.get("faults", {}).items():
        for policy in sorted(each["policies"]):
            of = each["policies"][policy]
            before, during = of["before"], of["during"]
            rows.append(
                (
                    f"{fault}, {policy}",
                    f"{before['p50']:.1f} / {before['p99']:.1f}",
                    *(f"{during[name]:.1f}" for name in ("p50", "p99", "p999", "max")),
                    f"{of['on_it']:.1%}",
                    str(of["failed"]),
                )
            )
    head = ("fault, policy", "before: p50 / p99", "p50", "p99", "p99.9", "longest", "reads it got", "failed")
    lead = (
        f"{server(found.get('server', ''))}; milliseconds during the fault; "
        f"a read usually takes {found.get('usual_ms', 0):.2f} ms."
    )
    return f"{lead}\n\n{table(head, rows)}"


def growth_aims(found: dict[str, Any]) -> list[str]:
    """Whether routing grows with replicas, more than linearly with the text, or without bound."""
    lines = []
    for policy, each in found.get("replicas", {}).items():
        counts = list(each)
        grown = each[counts[-1]]["median"] / each[counts[0]]["median"]
        lines.append(
            f"{_met(grown <= 1.25)} {policy}: routing over {counts[-1]} replicas takes {grown:.2f} "
            f"of the CPU of {counts[0]}; aim: it does not grow"
        )
    for name, each in found.get("length", {}).items():
        (shorter, before), (longer, after) = list(each["sizes"].items())[-2:]
        grown = (after["median"] / before["median"]) / (int(longer) / int(shorter))
        lines.append(
            f"{_met(grown <= 1.25)} {name}: a character of {int(longer):,} takes {grown:.2f} of one of "
            f"{int(shorter):,}; aim: linear"
        )
    distinct = list(found.get("distinct", {}).values())
    if len(distinct) > 1:
        grown = (distinct[-1]["kilobytes"] - distinct[-2]["kilobytes"]) / 1024
        lines.append(
            f"{_met(grown <= 1.0)} memory grows by {grown:.1f} MB over the last 90 % of "
            f"{int(list(found['distinct'])[-1]):,} different texts; aim: bounded"
        )
    return lines


def price(found: dict[str, Any]) -> str:
    """Statements on a slow wire, then mixes."""
    parts = []
    if found.get("statements"):
        rows = [
            (name, f"{each['plain_ms']:.2f}", f"{each['ours_ms']:.2f}", ratio(each["ratio"]))
            for name, each in found["statements"].items()
        ]
        parts.append(
            f"{server(found['server'])}, single statements on a wire of 2 ms round trip, "
            "against plain peewee:\n\n" + table(("statement", "peewee, ms", "ours, ms", "ratio"), rows)
        )
    rows = [
        (
            f"{cell['lag_ms']} ms late, {cell['writes']:.0%} writes, {cell['strategy']}",
            f"{cell['by_replicas']:.0%}",
            f"{cell['p50_ms']:.2f}",
            f"{cell['p95_ms']:.1f}",
            f"{cell['p99_ms']:.1f}",
            f"{cell['stale']} of {cell['reads']}",
        )
        for cell in found.get("mixes", [])
    ]
    if rows:
        head = ("replicas, program, strategy", "by replicas", "p50, ms", "p95", "p99", "stale reads")
        parts.append("Many users at an even pace, reading at random:\n\n" + table(head, rows))
    return "\n\n".join(parts)


def growth(found: dict[str, Any]) -> str:
    """Time and memory of routing alone."""
    parts = []
    if found.get("replicas"):
        counts = list(next(iter(found["replicas"].values())))
        rows = [
            (name, *(f"{each[count]['median'] / 1000:.2f}" for count in counts))
            for name, each in found["replicas"].items()
        ]
        parts.append(
            "CPU microseconds to route one read, by replicas:\n\n" + table(("policy", *counts), rows)
        )
    if found.get("threads"):
        counts = list(found["threads"])
        rows = [
            (kind, *(f"{found['threads'][count][kind]['median'] / 1000:.2f}" for count in counts))
            for kind in ("wall", "cpu")
        ]
        parts.append("Microseconds per read, by threads:\n\n" + table(("", *counts), rows))
    if found.get("length"):
        names = list(found["length"])
        sizes = [list(each["sizes"].items()) for each in found["length"].values()]
        rows = [
            (
                f"about {int(row[0][0]):,} characters",
                *(f"{whole(each['median'])} µs" for _, each in row),
            )
            for row in zip(*sizes, strict=False)
        ]
        parts.append("CPU time for a text never seen before:\n\n" + table(("", *names), rows))
    if found.get("distinct"):
        rows = [
            (
                f"{int(count):,}",
                f"{each['us']:.1f} µs",
                f"{each['kilobytes'] / 1024:.1f} MB",
                f"{each['kept']:,}",
            )
            for count, each in found["distinct"].items()
        ]
        head = ("different texts so far", "each, since the line above", "memory since the start", "kept")
        parts.append(table(head, rows))
    return "\n\n".join(parts)
