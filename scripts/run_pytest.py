"""Run pytest; if only a few tests failed, run those once more, one after the other.

Usage: run_pytest.py JUNIT_FILE [ARGUMENT OF PYTEST...]

The tests run beside others on machines that have more to do, and with some ten thousand of them a timeout is
met now and then that says nothing about the library. A test that fails alone as well has failed. One that
passes alone has passed, but `summary.py` names it: it may have met a race, and somebody has to look at it.
"""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# More than this many failures are no accident.
FEW = 5

# For more workers than this, the tests' modules are compiled before they start.
FEW_WORKERS = 3

_TESTS_FAILED = 1  # pytest's code for it


def again(junit: Path) -> Path:
    """Return the report of the second run that belongs to the report of a first."""
    return junit.parent / "again" / junit.name


def failures(junit: Path) -> list[str]:
    """Return the tests of a report that failed, or whose fixtures did."""
    cases = ElementTree.parse(junit).iter("testcase")
    bad = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return list(dict.fromkeys(f"{case.get('classname')}::{case.get('name')}" for case in bad))


def main(junit: Path, arguments: list[str]) -> int:
    """Run pytest once or twice, and return its exit code."""
    cache = junit.with_suffix(".cache")
    shutil.rmtree(cache, ignore_errors=True)
    again(junit).unlink(missing_ok=True)
    # Not `python -m pytest`, which would import the source tree instead of what is installed.
    pytest = [str(Path(sys.executable).with_name("pytest")), "-o", f"cache_dir={cache}", *arguments]
    workers = arguments[arguments.index("-n") + 1] if "-n" in arguments else ""
    if workers.isdigit() and int(workers) > FEW_WORKERS:
        # The workers all begin at once, and each would compile every module that no other has compiled yet.
        subprocess.call([*pytest, "--collect-only", "-qqq", "-n", "0"], stdout=subprocess.DEVNULL)
    code = subprocess.call([*pytest, f"--junitxml={junit}"])
    remembered = cache / "v" / "cache" / "lastfailed"
    if code != _TESTS_FAILED or not remembered.exists():
        return code
    failed = json.loads(remembered.read_text())
    if len(failed) > FEW or len(failures(junit)) > FEW:
        return code
    print(f"\n{len(failed)} failed, and are run once more, alone", flush=True)
    alone = ["--last-failed", "--last-failed-no-failures=none", *(["-n", "0"] if "-n" in arguments else [])]
    return subprocess.call([*pytest, *alone, f"--junitxml={again(junit)}"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
