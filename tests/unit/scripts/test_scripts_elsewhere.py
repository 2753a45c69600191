"""`scripts/demo` and `scripts/test` on systems that lack something end in one sentence, not in a traceback.

What can be lacking was listed by reading the scripts: apt (Fedora, macOS), a Python, a network, HOME, a
folder that can be written to; and what bash 3.2, which macOS has, lacks. Here PATH leads to a folder with the
tools of every system and nothing else, and "python3" is a script that answers as Python does, so that nothing
is installed. No bash 3.2 was at hand: what it lacks is looked for in the text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

ROOT = Path(__file__).parents[3]
SCRIPTS = ("demo", "test", "bench", "install-servers", "lib.sh")
TOOLS = """
    awk bash basename cat chmod cp cut date df dirname find grep head id ln ls mkdir mktemp mv rm sed sh sort
    tail touch tr uname
"""
# What a Python is asked by the scripts; anything else is written down.
PYTHON = """#!/bin/sh
case "$*" in
    *sys.version_info\\ *|*"v = sys.version_info"*) echo "11 $0" ;;
    *"import ensurepip"*) ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *" --version") echo pip ;;
    *"pip install"*) [ -n "$PIP_ANSWER" ] || exit 0
        while [ "$1" != --log ]; do shift; done
        echo "$PIP_ANSWER" > "$2"; echo "Traceback (most recent call last)" >&2; exit 1 ;;
    *) printf '<%s>' "$@"; echo ;;
esac
"""
# `pip install uv` gets $UV. Whoever installs tox gets one that writes down how it was called.
TOX = """[ -z "$NO_TOX_UV" ] || case "$*" in *tox-uv*) exit 1 ;; esac
        printf '#!/bin/sh\\necho "$*, $PATH, $UV_DEFAULT_INDEX, $UV_INDEX, $UV_FIND_LINKS"\\n' >"${0%/*}/tox"
        chmod +x "${0%/*}/tox" """
INSTALLING = PYTHON.replace(
    """    *"pip install"*)""",
    f"""    *"config list") printf '%s\\n' "$PIP_CONFIG" ;;
    *"pip install"*" uv") [ -n "$UV" ] && cp "$UV" "${{0%/*}}/uv" ;;
    *"pip install"*" tox>"*) {TOX} ;;
    *"pip install"*)""",
)
UV = f"""#!/bin/sh
case "$*" in
    "pip compile"*) exit $UV_CODE ;;
    "pip install"*" tox>"*) {TOX} ;;
esac
"""
OFFLINE = "NewConnectionError: Temporary failure in name resolution"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout in a path with spaces, with the scripts alone."""
    folder = tmp_path / "my projects" / "a checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS.split():
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return folder


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tree: Path, tools: Path, tmp_path: Path) -> Run:
    """Run a script there, by a user whose home has spaces in its path."""

    def run_script(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "a home"
        home.mkdir(exist_ok=True)
        # bash and the scripts append the system's folders to PATH, and there apt may be.
        text = (tree / "scripts/lib.sh").read_text()
        (tree / "scripts/lib.sh").write_text(re.sub(r"^export PATH=.*$", "export PATH", text, flags=re.M))
        return subprocess.run(
            [shutil.which("bash") or "bash", f"scripts/{command[0]}", *command[1:]],
            cwd=tree,
            env={"PATH": str(tools), "HOME": str(home), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run_script


def add(tools: Path, name: str, text: str = "#!/bin/sh\nexit 1\n") -> None:
    (tools / name).write_text(text)
    (tools / name).chmod(0o755)


def says_no_more_than_it_should(done: subprocess.CompletedProcess[str]) -> None:
    """Every line is the scripts' own: no traceback, and no complaint of the shell's."""
    strange = [line for line in done.stderr.splitlines() if not line.startswith(("==> ", "!!! "))]
    assert strange == [], done.stderr


@pytest.mark.parametrize(
    ("manager", "remedies"),
    [
        ("dnf", ["run as root: dnf install mariadb-server", "run as root: dnf install mysql-server"]),
        ("brew", ["run: brew install mariadb", "run: brew install mysql"]),
        ("", ["like Debian's mariadb-server-core mariadb-client-core", "like Debian's mysql-server"]),
    ],
)
def test_a_system_without_apt_is_told_its_own_command(
    run: Run, tools: Path, manager: str, remedies: list[str]
) -> None:
    if manager:
        add(tools, manager)
    done = run("install-servers")
    says_no_more_than_it_should(done)
    assert done.returncode == 13, done.stderr
    missing = [line for line in done.stderr.splitlines() if "MISSING SERVER" in line]
    assert len(missing) == 2
    for line, remedy in zip(missing, remedies, strict=True):
        assert remedy in line


def test_servers_of_the_system_are_enough(run: Run, tools: Path) -> None:
    for name in ("mariadbd", "mariadb-install-db", "my_print_defaults"):
        add(tools, name)
    add(tools, "mysqld", "#!/bin/sh\necho 'mysqld  Ver 9.7.4 for macos (Homebrew)'\n")
    done = run("install-servers", "mariadb", "mysql")
    assert (done.returncode, done.stderr) == (0, "")
    add(tools, "mysqld", "#!/bin/sh\necho 'mysqld  Ver 10.11.19-MariaDB'\n")
    assert run("install-servers", "mariadb", "mysql").returncode == 12


@pytest.mark.parametrize("script", ["demo", "test"])
def test_without_a_python_the_last_line_says_so(run: Run, tools: Path, script: str) -> None:
    add(tools, "dnf")
    done = run(script)
    says_no_more_than_it_should(done)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "!!! no Python >= 3.10 found; run as root: dnf install python3"


@pytest.mark.parametrize(("script", "what"), [("demo", "the library"), ("test", "tox")])
def test_offline_the_last_line_says_so(run: Run, tools: Path, tree: Path, script: str, what: str) -> None:
    add(tools, "python3", PYTHON)
    done = run(script, PIP_ANSWER=OFFLINE)
    says_no_more_than_it_should(done)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"!!! cannot install {what}: no package index can be reached; connect to a network, or set "
        f"PIP_INDEX_URL or PIP_FIND_LINKS; the details are in {tree}/.venv/pip.log"
    )


def test_another_failure_of_pip_is_told_in_its_own_last_words(run: Run, tools: Path) -> None:
    add(tools, "python3", PYTHON)
    done = run("demo", PIP_ANSWER="2026-01-01T00:00:00 ERROR: No space left on device")
    assert "!!! cannot install the library: No space left on device; the details are in " in done.stderr


def test_the_demo_runs_from_a_path_with_spaces_with_its_arguments(run: Run, tools: Path) -> None:
    add(tools, "python3", PYTHON)
    done = run("demo", "--an argument")
    says_no_more_than_it_should(done)
    assert (done.returncode, done.stdout) == (0, "<-m><demo><--sqlite><--an argument>\n")
    for name in ("mariadbd", "mariadb-install-db", "my_print_defaults"):
        add(tools, name)
    assert run("demo").stdout == "<-m><demo>\n"


def test_quick_needs_no_server(run: Run, tools: Path) -> None:
    add(tools, "python3", PYTHON)
    done = run("test", "quick", "lint", PIP_ANSWER=OFFLINE)
    assert "SERVER" not in done.stderr
    assert "SERVER" in run("test", "quick", "full", PIP_ANSWER=OFFLINE).stderr


@pytest.fixture
def uv(tools: Path) -> str:
    add(tools, "uv-to-install", UV)
    return str(tools / "uv-to-install")


SOURCES = {
    "": ("", "", ""),
    "global.index-url='https://one.example/'": ("https://one.example/", "", ""),
    ":env:.extra-index-url='https://two.example/ /three'\nglobal.find-links='/four /five'": (
        "", "https://two.example/ /three", "/four,/five",
    ),
    "install.extra-index-url='https://two.example/\\n/three'": ("", "https://two.example/ /three", ""),
}  # fmt: skip


@pytest.mark.parametrize("config", SOURCES)
def test_uv_installs_what_tox_needs_from_where_pip_would(run: Run, tools: Path, uv: str, config: str) -> None:
    add(tools, "python3", INSTALLING)
    done = run("test", "quick", UV=uv, UV_CODE="0", PIP_CONFIG=config)
    says_no_more_than_it_should(done)
    assert "uv installs what the environments need" in done.stderr
    command, path, *sources = done.stdout.splitlines()[0].split(", ")
    assert command.startswith("run --discover ")
    assert path == f"{tools}:{tools}", "where uv looks for the Pythons"
    assert tuple(sources) == SOURCES[config]


@pytest.mark.parametrize(
    "problem",
    [
        {"UV_CODE": "2"},
        {"UV_CODE": "0", "PIP_CONFIG": ":env:.no-index='1'"},
        {"UV_CODE": "0", "NO_TOX_UV": "1"},
    ],
)
def test_where_uv_finds_nothing_pip_installs(run: Run, tools: Path, uv: str, problem: dict[str, str]) -> None:
    add(tools, "python3", INSTALLING)
    for _ in range(2):
        done = run("test", "quick", UV=uv, **problem)
        says_no_more_than_it_should(done)
        assert "uv installs" not in done.stderr
        assert done.stdout.splitlines()[0].startswith("run --runner virtualenv --discover ")
        problem = {"UV_CODE": "0"}  # what is there was made by pip, and stays


def test_a_later_run_without_a_network_keeps_what_uv_has_installed(run: Run, tools: Path, uv: str) -> None:
    add(tools, "python3", INSTALLING)
    first = run("test", "quick", UV=uv, UV_CODE="0")
    later = run("test", "quick", UV="", UV_CODE="2")
    assert later.stdout == first.stdout


def test_without_home_the_users_own_is_taken(run: Run, tools: Path) -> None:
    done = run("install-servers", "mariadb-1.2", HOME="")
    says_no_more_than_it_should(done)
    assert done.returncode == 14


@pytest.fixture
def readable_by_all() -> Iterator[Path]:
    """A folder that every user may read: those of pytest are the own user's alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_checkout_of_somebody_else_is_named(tree: Path, tools: Path, readable_by_all: Path) -> None:
    add(tools, "python3", PYTHON)
    shutil.copytree(tools, readable_by_all / "tools", symlinks=True)
    checkout = Path(shutil.copytree(tree, readable_by_all / "a checkout"))
    command = ["bash", "scripts/demo"]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    lib = checkout / "scripts/lib.sh"
    lib.write_text(re.sub(r"^export PATH=.*$", "export PATH", lib.read_text(), flags=re.MULTILINE))
    checkout.chmod(0o555)
    done = subprocess.run(
        [shutil.which(command[0]) or command[0], *command[1:]],
        cwd=checkout,
        env={"PATH": str(readable_by_all / "tools"), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    checkout.chmod(0o755)
    says_no_more_than_it_should(done)
    assert done.stderr.splitlines()[-1] == (
        f"!!! the folder {checkout} cannot be written to; copy it to one of yours and run it there"
    )


# What bash has had only since a release after 3.2.
NEWER = {
    "4.0": [r"\bmapfile\b", r"\breadarray\b", r"\b(declare|local|typeset) -\w*A", r"\$\{\w+(,,?|\^\^?)\}",
            r"\|&", r"&>>", r"\bcoproc\b", r";;?&", r"\*\*/"],
    "4.2": [r"\b(declare|local) -\w*g", r"\[\[? -v ", r"printf '?%\(", r"\$\{\w+: -"],
    "4.3": [r"\bwait -n", r"\b(declare|local) -\w*n\b", r"\w\[-\d+\]"],
    "4.4": [r"\$\{\w+@\w\}", r"\b(shopt -s )?inherit_errexit"],
    "5.0": [r"EPOCHSECONDS", r"EPOCHREALTIME", r"BASH_ARGV0"],
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_uses_what_bash_3_2_lacks(name: str) -> None:
    lines = [line for line in (ROOT / "scripts" / name).read_text().splitlines() if not line.startswith("#")]
    found = [
        (since, line.strip())
        for line in lines
        for since in NEWER
        for what in NEWER[since]
        if re.search(what, line)
    ]
    assert found == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_array_that_may_be_empty_is_expanded_in_the_form_that_bash_3_2_takes(name: str) -> None:
    text = (ROOT / "scripts" / name).read_text()
    empty = set(re.findall(r"^\s*(\w+)=\(\)$", text, re.MULTILINE))
    for array in empty:
        bare = re.sub(rf'\$\{{{array}\[@\]\+"\$\{{{array}\[@\]\}}"\}}', "", text)
        uses = [line.strip() for line in bare.splitlines() if f'"${{{array}[@]}}"' in line]
        # `envs` is looked at in these places only when it has an element.
        uses = [line for line in uses if array != "envs"]
        assert uses == [], name
