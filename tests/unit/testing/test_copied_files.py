"""A data directory's files are copied as they are, on systems and file systems that know holes and others."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from peewee_replicas.testing import launch

BLOCK = 1 << 16
FILES = {
    "empty": [],
    "all data": [b"a" * 100],
    "hole first": [BLOCK, b"b" * BLOCK],
    "hole last": [b"a" * (3 * BLOCK + 1), BLOCK],
    "holes between": [b"a", BLOCK * 2, b"b", BLOCK * 2, b"c"],
    "a hole alone": [BLOCK],
}


@pytest.fixture(params=["holes", "a file system without", "a system without"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the system says of holes; no file system at hand says the second, nor Linux the third."""

    def refuse(*given: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    if request.param == "a file system without":
        monkeypatch.setattr(launch.os, "lseek", refuse)
    elif request.param == "a system without":
        monkeypatch.delattr(launch.os, "SEEK_DATA")
    return str(request.param)


@pytest.mark.parametrize("parts", FILES.values(), ids=FILES)
def test_a_copy_has_the_same_bytes(tmp_path: Path, parts: list[bytes | int], system: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        for part in parts:
            if isinstance(part, int):
                file.seek(part, os.SEEK_CUR)
            else:
                file.write(part)
        file.truncate()
    source.chmod(0o640)
    launch._copy_written(str(source), str(target))
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode == source.stat().st_mode


@pytest.mark.parametrize("parts", FILES.values(), ids=FILES)
def test_making_holes_changes_no_byte(tmp_path: Path, parts: list[bytes | int]) -> None:
    content = b"".join(b"\0" * part if isinstance(part, int) else part for part in parts)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "file"
    path.write_bytes(content)
    launch._make_holes(tmp_path)
    assert path.read_bytes() == content
    assert list(tmp_path.rglob("*.new")) == []
