"""The one command: measures section by section, each in a process of its own, and draws what was found."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from configparser import ConfigParser
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from peewee_replicas.testing import available

from .plan import Plan

ROOT = Path(__file__).resolve().parents[1]


class Section(NamedTuple):
    """One part of the run: its module, and seconds in the short and in the full form."""

    module: str
    quick: float
    full: float


SECTIONS = (
    Section("overhead", 45, 220),
    Section("comparison", 60, 320),
    Section("scaling", 25, 90),
    Section("over_time", 30, 80),
    Section("price", 20, 120),
    Section("growth", 20, 100),
)


def arguments() -> argparse.Namespace:
    """From the command line."""
    names = [section.module for section in SECTIONS]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything in small, in under two minutes")
    parser.add_argument("--server", choices=("mariadb", "mysql"), action="append", help="default: both")
    parser.add_argument("--only", choices=names, action="append", help="a section; others stay as they are")
    parser.add_argument("--output", type=Path, help="default: docs/benchmarks, with --quick build/benchmarks")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, draw the last results again")
    parser.add_argument("--plan", help=argparse.SUPPRESS)  # for the processes of sections
    return parser.parse_args()


def run_section(text: str) -> None:
    """In a section's process."""
    told = json.loads(text)
    name = told.pop("section")
    plan = Plan(**{**told, "servers": tuple(told["servers"]), "output": Path(told["output"])})
    plan.save(importlib.import_module(f".{name}", __package__).measure(plan))


def measure(section: Section, quick: bool, servers: list[str]) -> dict[str, Any]:
    """One section; whatever happens to it, there is something to report."""
    began = time.monotonic()
    seconds = section.quick if quick else section.full
    print(f"==> {section.module} (about {seconds:.0f} s)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "result", Path(folder) / "log"
        told = {
            "section": section.module,
            "quick": quick,
            "servers": servers,
            "seconds": seconds,
            "output": str(result),
        }
        command = [sys.executable, "-m", __package__ or "benchmarks", "--plan", json.dumps(told)]
        # A session of its own, so that all it has started can be ended with it.
        with log.open("wb") as errors:
            tail = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
            failure = _wait(tail, seconds * (6 if quick else 1.5) + 45, errors)
        found = json.loads(result.read_text()) if result.exists() else {}
        if failure:
            words = log.read_text(errors="replace").strip().splitlines()
            failure = f"{failure}: {words[-1] if words else 'no word'}"[:500]
            print(f"!!! {section.module}: {failure}", file=sys.stderr, flush=True)
    return {"seconds": time.monotonic() - began, "failure": failure, "found": found}


def _wait(process: subprocess.Popen[bytes], seconds: float, log: Any) -> str:
    """Pass on what the process says until it ends; returns why it did not end well, or ``""``."""

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.write(line)
            log.flush()
            sys.stderr.write(line.decode(errors="replace"))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    finally:
        _end(process)
        listener.join(2)
    return "" if code == 0 else f"ended with code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a section and all it has started, also where this program was interrupted; servers follow it."""
    for how, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def about(quick: bool, servers: list[str]) -> dict[str, Any]:
    """What the numbers were measured on and with."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    model = "unknown"
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "quick": quick,
        "servers": servers,
        "date": time.strftime("%Y-%m-%d"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            "peewee_replicas": setup["metadata"]["version"],
            **{name: version(name) for name in ("peewee", "PyMySQL")},
        },
    }


def main() -> int:
    """Measure and draw; the exit code is 0 if every section has ended well."""
    options = arguments()
    if options.plan:
        run_section(options.plan)
        return 0
    output = options.output or ROOT / ("build/benchmarks" if options.quick else "docs/benchmarks")
    output.mkdir(parents=True, exist_ok=True)
    file = output / "results.json"
    servers = [server for server in options.server or ("mariadb", "mysql") if available(server) is None]
    if not servers and not options.redraw:
        print("!!! no server to measure on: scripts/install-servers gets them", file=sys.stderr)
        return 1
    if options.quick and not options.server:
        del servers[1:]
    results: dict[str, Any] = {"sections": {}}
    if (options.redraw or options.only) and file.exists():
        results = json.loads(file.read_text())
    if not options.redraw:
        began = time.monotonic()
        results["about"] = about(options.quick, servers)
        for section in SECTIONS:
            if not options.only or section.module in options.only:
                results["sections"][section.module] = measure(section, options.quick, servers)
                file.write_text(json.dumps(_rounded(results), separators=(",", ":")) + "\n")
        results["about"]["seconds"] = time.monotonic() - began
        file.write_text(json.dumps(_rounded(results), separators=(",", ":")) + "\n")
    from . import report

    report.write(json.loads(file.read_text()), output)
    print(f"==> {output / 'results.md'}", file=sys.stderr)
    failed = [name for name, each in results["sections"].items() if each["failure"]]
    return int(bool(failed))


def _rounded(value: Any) -> Any:
    """The same with numbers of six digits: the file is kept, and no clock here is better than that."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
