"""Finds the server programs on this machine, and explains how to install missing ones."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Server = Literal["mariadb", "mysql"]

_TITLES = {"mariadb": "MariaDB", "mysql": "MySQL"}
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
    """MariaDB only: the command that makes a new data directory."""

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


def available(server: Server) -> str | None:
    """Return None if the server can be started on this machine; else why not, and what to do.

    Raises:
        ValueError: the server is neither ``"mariadb"`` nor ``"mysql"``.
    """
    try:
        find(server)
    except MissingServer as error:
        return str(error)
    return None


def find(server: Server) -> Installation:
    """Find the installation of a server.

    MySQL is searched for in the folder that ``$PEEWEE_REPLICAS_MYSQL`` names; without that variable, in
    ``mysql`` in the cache folder and then on the system.

    Raises:
        MissingServer: there is none.
        ValueError: the server is neither ``"mariadb"`` nor ``"mysql"``.
    """
    if server not in get_args(Server):
        raise ValueError(f"server must be 'mariadb' or 'mysql', not {server!r}")
    if server == "mariadb":
        return _find_mariadb()
    named = os.environ.get("PEEWEE_REPLICAS_MYSQL")
    folders = [Path(named).absolute()] if named else [cache_folder() / "mysql"]
    for folder in folders:
        found = _in_folder(folder)
        if found is not None:
            return found
    if named:
        raise MissingServer(
            f"PEEWEE_REPLICAS_MYSQL names {named}, and no MySQL server runs from there: it must be "
            "a folder with a working sbin/mysqld, bin/mysqld or usr/sbin/mysqld"
        )
    for program in _programs("mysqld"):
        version = _version((program,))
        if version and not version[1]:
            return Installation("mysql", version[0], (program,))
    raise MissingServer(_missing("mysql", [str(folder) for folder in folders]))


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


def _in_folder(folder: Path) -> Installation | None:
    """Find MySQL in a folder: an unpacked system root, or an installation prefix."""
    program = next(
        (
            folder / place
            for place in ("usr/sbin/mysqld", "sbin/mysqld", "bin/mysqld", "usr/bin/mysqld")
            if (folder / place).is_file()
        ),
        None,
    )
    if program is None:
        return None
    if not (folder / "usr").is_dir():
        version = _version((str(program),))
        if version is None:
            return None
        return Installation("mysql", version[0], (str(program),), (f"--basedir={folder}",))
    share = folder / "usr/share/mysql"
    options: tuple[str, ...] = (
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        f"--plugin-dir={folder / 'usr/lib/mysql/plugin'}",
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
    version = _version(command, libraries)
    return Installation("mysql", version[0], command, options, libraries) if version else None


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
        "PEEWEE_REPLICAS_MYSQL to a folder that MySQL was unpacked or installed to"
    )
    return f"Install it: {install}; or {own}." if install else f"To get it, {own}."
