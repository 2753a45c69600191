"""Finds the server programs on this machine, and explains how to install missing ones."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Server = Literal["mariadb", "mysql"]

_TITLES = {"mariadb": "MariaDB", "mysql": "MySQL"}
_PROGRAMS = {"mariadb": ("mariadbd", "mysqld"), "mysql": ("mysqld",)}
_PLACES = ("usr/sbin", "sbin", "bin", "usr/bin")
_VERSION = re.compile(r"\d+(\.\d+)*")
# The ends of the names of the scripts that `mariadb-install-db` runs; before 10.6 there is no sys schema.
_SYSTEM_TABLES = (
    "system_tables",
    "performance_tables",
    "system_tables_data",
    "add_gis_sp_bootstrap",
    "sys_schema",
)
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec", "/usr/bin")


class MissingServer(RuntimeError):
    """The server is not installed on this machine. The message says how to install it."""


@dataclass(frozen=True)
class Installation:
    """A server program, and how to run it."""

    server: Server
    version: str
    command: tuple[str, ...]
    """The command without options."""
    options: tuple[str, ...] = ()
    """Options that name the server's own files, if it does not find them by itself."""
    libraries: str = ""
    """Folders of shared libraries, for the environment."""
    installer: tuple[str, ...] = ()
    """MariaDB on the system: the command that makes a new data directory."""
    system_tables: tuple[Path, ...] = ()
    """MariaDB in a folder: the scripts that make a new data directory, in their order."""

    def environment(self) -> dict[str, str]:
        """Return the environment to run the program in."""
        environment = dict(os.environ)
        if self.libraries:
            environment["LD_LIBRARY_PATH"] = self.libraries
        return environment


def cache_folder() -> Path:
    """Return the folder that keeps prepared data directories.

    It is ``$PEEWEE_REPLICAS_CACHE``, or else ``peewee_replicas`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    own = os.environ.get("PEEWEE_REPLICAS_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache").absolute() / "peewee_replicas"
    except RuntimeError:  # no home folder
        return Path(tempfile.gettempdir()) / f"peewee_replicas-{os.getuid()}"


def available(server: Server, version: str | None = None) -> str | None:
    """Return None if the server can be started on this machine; else why not, and what to do.

    Raises:
        ValueError: `server` or `version` is wrong.
    """
    try:
        find(server, version)
    except MissingServer as error:
        return str(error)
    return None


def check_version(version: str) -> None:
    """Check that a version is written as numbers with dots between them.

    Raises:
        ValueError: it is not.
    """
    if not (isinstance(version, str) and _VERSION.fullmatch(version)):
        raise ValueError(f"version must be a text such as '11.8' or '10.5.29', not {version!r}")


def find(server: Server, version: str | None = None) -> Installation:
    """Find the installation of a server.

    Without `version`, ``$PEEWEE_REPLICAS_MARIADB`` or ``$PEEWEE_REPLICAS_MYSQL`` decides, which is a version
    or a folder. Without both, MySQL is searched for in ``mysql`` in the cache folder and then on the system,
    MariaDB on the system.

    Parameters:
        version: the version or its beginning, such as ``"11.8"``. It is searched for in the cache folder,
            where ``scripts/install-servers`` puts it, and then on the system; the newest is taken.

    Raises:
        MissingServer: there is none.
        ValueError: `server` is neither ``"mariadb"`` nor ``"mysql"``, or `version` is not a version.
    """
    if server not in get_args(Server):
        raise ValueError(f"server must be 'mariadb' or 'mysql', not {server!r}")
    if version is not None:
        check_version(version)
        return _of_version(server, version, "")
    variable = f"PEEWEE_REPLICAS_{server.upper()}"
    named = os.environ.get(variable)
    if named and _VERSION.fullmatch(named):
        return _of_version(server, named, f" (which {variable} asks for)")
    if named:
        found = _in_folder(server, Path(named).absolute())
        if found is not None:
            return found
        program = _PROGRAMS[server][0]
        raise MissingServer(
            f"{variable} names {named}, and no {_TITLES[server]} server runs from there: it must be "
            f"a version, or a folder with a working sbin/{program}, bin/{program} or usr/sbin/{program}"
        )
    if server == "mariadb":
        return _find_mariadb()
    folder = cache_folder() / "mysql"
    found = _in_folder("mysql", folder) or _mysql_on_system()
    if found is None:
        raise MissingServer(_missing("mysql", [str(folder)]))
    return found


def _of_version(server: Server, version: str, why: str) -> Installation:
    """Find the newest installation whose version is `version` or begins with it."""
    there = list(_all(server))
    fitting = [each for each in there if f"{each.version}.".startswith(f"{version}.")]
    if fitting:
        return max(fitting, key=lambda each: numbers(each.version))
    others = ", ".join(sorted({each.version for each in there}, key=numbers)) or "none"
    if server == "mariadb":
        remedy = f"To get it, run scripts/install-servers mariadb-{version} from peewee_replicas's source"
    else:
        remedy = f"Unpack it into {cache_folder() / f'mysql-{version}'}"
    raise MissingServer(
        f"{_TITLES[server]} {version}{why} is not installed. Versions that are: {others}. {remedy}."
    )


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare it with others."""
    return tuple(int(number) for number in version.split("."))


def _all(server: Server) -> Iterator[Installation]:
    """Return the installations in the cache folder, and the one on the system."""
    for folder in sorted([*cache_folder().glob(f"{server}-*"), cache_folder() / server]):
        found = _in_folder(server, folder)
        if found is not None:
            yield found
    if server == "mysql":
        on_system = _mysql_on_system()
        if on_system is not None:
            yield on_system
        return
    with suppress(MissingServer):
        yield _find_mariadb()


def _mysql_on_system() -> Installation | None:
    for program in _programs("mysqld"):
        version = _version((program,))
        if version and not version[1]:
            return Installation("mysql", version[0], (program,))
    return None


def _find_mariadb() -> Installation:
    for program in _programs("mariadbd", "mysqld"):
        version = _version((program,))
        if version and version[1]:
            beside = Path(program).resolve().parent.parent
            places = [str(beside / "scripts"), str(beside / "bin")]
            for installer in _programs("mariadb-install-db", "mysql_install_db", places=places):
                return Installation("mariadb", version[0], (program,), installer=(installer,))
            raise MissingServer(
                f"MariaDB's server is at {program}, but mariadb-install-db, which makes its data "
                f"directory, is not there. {_remedy('mariadb')}"
            )
    raise MissingServer(_missing("mariadb", []))


def _programs(*names: str, places: list[str] | None = None) -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", ""), *(places or ()), *_SYSTEM_FOLDERS])
    found = (shutil.which(name, path=path) for name in names)
    return [program for program in found if program]


def _in_folder(server: Server, folder: Path) -> Installation | None:
    """Find a server in a folder: an unpacked system root, or an installation prefix."""
    candidates = (folder / place / name for name in _PROGRAMS[server] for place in _PLACES)
    program = next((path for path in candidates if path.is_file()), None)
    if program is None:
        return None
    if not (folder / "usr").is_dir():
        return _installation(server, folder, (str(program),), (f"--basedir={folder}",))
    share = _share(folder / "usr")
    options = (
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        f"--plugin-dir={folder / 'usr/lib/mysql/plugin'}",
        *((f"--basedir={folder / 'usr'}",) if server == "mariadb" else ()),
    )
    # A system root contains its own C library, which only the loader beside it can load.
    loaders = sorted(folder.glob("usr/lib/*/ld-linux*.so.*"))
    homes = [loaders[0].parent] if loaders else sorted(folder.glob("usr/lib/*-linux-gnu*"))
    private = [path for path in (folder / "usr/lib/mysql/private",) if path.is_dir()]
    libraries = os.pathsep.join(str(path) for path in [*homes, *private])
    command: tuple[str, ...] = (str(program),)
    if loaders:
        command = (str(loaders[0]), "--library-path", libraries, str(program))
        libraries = ""
    return _installation(server, folder / "usr", command, options, libraries)


def _installation(
    server: Server, base: Path, command: tuple[str, ...], options: tuple[str, ...], libraries: str = ""
) -> Installation | None:
    """Return the installation below `base`, or None if it does not run or is the other server."""
    version = _version(command, libraries)
    if version is None or version[1] is not (server == "mariadb"):
        return None
    scripts: tuple[Path, ...] = ()
    if server == "mariadb":
        share = _share(base)
        found = (next(iter(sorted(share.glob(f"*_{name}.sql"))), None) for name in _SYSTEM_TABLES)
        scripts = tuple(script for script in found if script is not None)
    return Installation(server, version[0], command, options, libraries, system_tables=scripts)


def _share(base: Path) -> Path:
    """Return the folder of a server's messages, character sets and scripts below `base`."""
    folders = [base / place for place in ("share/mysql", "share/mariadb", "share")]
    return next((folder for folder in folders if (folder / "charsets").is_dir()), folders[0])


@functools.cache
def _version(command: tuple[str, ...], libraries: str = "") -> tuple[str, bool] | None:
    """Return the version, and whether it is MariaDB; None if the program does not run."""
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else None
    try:
        said = subprocess.run(
            [*command, "--no-defaults", "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            env=environment,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"Ver\s+(\d+\.\d+\.\d+)", said)
    return (match[1], "MariaDB" in said) if match else None


def _missing(server: Server, folders: list[str]) -> str:
    names = "mariadbd or mysqld" if server == "mariadb" else "mysqld"
    looked = ", ".join([*folders, "PATH", *_SYSTEM_FOLDERS])
    other = ""
    if server == "mysql" and any(_version((program,)) for program in _programs("mysqld")):
        other = " (the mysqld there is MariaDB's)"
    title = _TITLES[server]
    return f"{title} is not installed: no {names} of {title} in {looked}{other}. {_remedy(server)}"


def _remedy(server: Server) -> str:
    """Return how to install the server on this system."""
    manager = next((m for m in ("apt-get", "dnf", "apk", "brew") if shutil.which(m)), None)
    packages = {
        "mariadb": {
            "apt-get": "apt-get install mariadb-server",
            "dnf": "dnf install mariadb-server",
            "apk": "apk add mariadb",
            "brew": "brew install mariadb",
        },
        "mysql": {
            "dnf": "dnf install mysql-server",
            "brew": "brew install mysql",
        },
    }
    install = packages[server].get(manager or "")
    if server == "mariadb":
        return f"Install it: {install}" if install else "Install the package of MariaDB's server."
    own = (
        "run scripts/install-servers mysql from peewee_replicas's source, or set "
        "PEEWEE_REPLICAS_MYSQL to the folder that MySQL was unpacked or installed to"
    )
    return f"Install it: {install}; or {own}." if install else f"To get it, {own}."
