"""Which installation of a server a cluster gets, and what is said if there is none.

It can be chosen by the argument `version`, by a variable with a version, by one with a folder, or not at all;
each is tried for both servers, with the installation there and missing, in a prefix and on the system. The
programs here only print a version.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from peewee_replicas.testing import LocalCluster, MissingServer, available, installations

SERVERS = pytest.mark.parametrize("server", ["mariadb", "mysql"])
PROGRAM = {"mariadb": "mariadbd", "mysql": "mysqld"}


@pytest.fixture(autouse=True)
def _nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for server in PROGRAM:
        monkeypatch.delenv(f"PEEWEE_REPLICAS_{server.upper()}", raising=False)
    monkeypatch.setenv("PEEWEE_REPLICAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "system"))
    monkeypatch.setattr(installations, "_SYSTEM_FOLDERS", ())
    installations._version.cache_clear()
    yield
    installations._version.cache_clear()


def install(folder: Path, server: str, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{version}-MariaDB" if server == "mariadb" else version
    names = [PROGRAM[server], "mariadb-install-db"] if server == "mariadb" else [PROGRAM[server]]
    for name in names:
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {PROGRAM[server]} Ver {title} for Linux\n")
        program.chmod(0o755)
    return folder / PROGRAM[server]


def unpack(tmp_path: Path, server: str, version: str, folder: str = "") -> Path:
    return install(tmp_path / "cache" / (folder or f"{server}-{version}") / "bin", server, version)


@SERVERS
def test_a_version_is_found_by_its_beginning_and_the_newest_is_taken(server: str, tmp_path: Path) -> None:
    for version in ("8.4.2", "8.4.10", "8.40.1", "8.3.99"):
        unpack(tmp_path, server, version)
    install(tmp_path / "system", server, "9.7.4")
    found = {wanted: installations.find(server, wanted).version for wanted in ("8", "8.4", "8.4.2", "9.7")}  # type: ignore[arg-type]
    assert found == {"8": "8.40.1", "8.4": "8.4.10", "8.4.2": "8.4.2", "9.7": "9.7.4"}


@SERVERS
def test_a_variable_names_a_version_and_the_argument_goes_before_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("8.4.2", "9.1.0"):
        unpack(tmp_path, server, version)
    monkeypatch.setenv(f"PEEWEE_REPLICAS_{server.upper()}", "8.4")
    assert installations.find(server).version == "8.4.2"  # type: ignore[arg-type]
    assert installations.find(server, "9.1").version == "9.1.0"  # type: ignore[arg-type]


@SERVERS
def test_a_variable_names_a_folder(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "system", server, "9.7.4")
    program = install(tmp_path / "elsewhere" / "sbin", server, "8.4.2")
    monkeypatch.setenv(f"PEEWEE_REPLICAS_{server.upper()}", str(tmp_path / "elsewhere"))
    assert installations.find(server).command == (str(program),)  # type: ignore[arg-type]


@SERVERS
def test_a_folder_with_the_other_server_is_not_taken(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "mysql" if server == "mariadb" else "mariadb"
    program = install(tmp_path / "elsewhere" / "sbin", other, "8.4.2")
    program.replace(program.with_name("mysqld"))  # the name that both have
    monkeypatch.setenv(f"PEEWEE_REPLICAS_{server.upper()}", str(tmp_path / "elsewhere"))
    message = available(server)  # type: ignore[arg-type]
    assert message is not None
    assert f"PEEWEE_REPLICAS_{server.upper()} names {tmp_path / 'elsewhere'}" in message


@SERVERS
@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_version_that_is_not_installed_is_missing(
    server: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(tmp_path, server, "8.4.2")
    install(tmp_path / "system", server, "9.7.4")
    wanted = "8.40"
    if by == "variable":
        monkeypatch.setenv(f"PEEWEE_REPLICAS_{server.upper()}", wanted)
    with pytest.raises(MissingServer) as raised:
        LocalCluster(server=server, version=wanted if by == "argument" else None).start()  # type: ignore[arg-type]
    message = str(raised.value)
    assert "8.40" in message
    assert "Versions that are: 8.4.2, 9.7.4" in message
    assert ("scripts/install-servers mariadb-8.40" if server == "mariadb" else "mysql-8.40") in message
    assert (f"PEEWEE_REPLICAS_{server.upper()}" in message) is (by == "variable")


@SERVERS
def test_without_a_choice_other_versions_in_folders_change_nothing(server: str, tmp_path: Path) -> None:
    for version in ("8.4.2", "11.8.9"):
        unpack(tmp_path, server, version)
    assert available(server) is not None  # type: ignore[arg-type]
    install(tmp_path / "system", server, "9.7.4")
    installations._version.cache_clear()
    assert installations.find(server).version == "9.7.4"  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["", "newest", "11.8-ga", "11.", 11.8])
def test_what_is_no_version_is_refused_at_once(version: object) -> None:
    with pytest.raises(ValueError, match="version must be a text such as"):
        LocalCluster(server="mariadb", version=version)  # type: ignore[arg-type]
