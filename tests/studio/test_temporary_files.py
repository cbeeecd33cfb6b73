"""Temporary files are deleted however a studio ends."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from scrfd_trt._studio.temporary_files import LOCK, PREFIX, SessionFiles, TemporaryFolder, delete_abandoned
from scrfd_trt.errors import ImageError

HOLD = """
from scrfd_trt._studio.temporary_files import TemporaryFolder
folder = TemporaryFolder()
(folder.new() / "picture.png").write_bytes(b"secret")
print(flush=True)
input()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_folder_is_created_on_first_use(place: Path) -> None:
    folder = TemporaryFolder()
    assert not list(place.iterdir())
    one, two = folder.new(), folder.new()
    assert one != two
    assert [path.name[: len(PREFIX)] for path in place.iterdir()] == [PREFIX]
    folder.close()
    folder.close()
    assert not list(place.iterdir())


def test_folder_of_killed_studio_is_deleted(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        delete_abandoned()
        assert list(place.rglob("picture.png")), "the studio is still running"
        process.kill()
    assert list(place.rglob("picture.png"))
    mine = TemporaryFolder()
    mine.new()
    delete_abandoned()
    assert not list(place.rglob("picture.png"))
    assert len(list(place.iterdir())) == 1
    mine.close()


def test_other_folders_stay(place: Path) -> None:
    (place / f"{PREFIX}without").mkdir()
    (place / "another").mkdir()
    (place / "another" / LOCK).touch()
    (place / f"{PREFIX}link").symlink_to(place / "another")
    (place / f"{PREFIX}file").touch()
    delete_abandoned()
    assert len(list(place.iterdir())) == 4
    assert (place / "another" / LOCK).exists()


def test_no_writable_folder_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    delete_abandoned()
    files = SessionFiles(TemporaryFolder())
    with pytest.raises(ImageError, match="no writable folder for them; set the environment variable TMPDIR") as caught:
        files.write("a.png", b"")
    assert "\n" not in str(caught.value)
    files.close()


@pytest.mark.parametrize(("code", "reason"), [(errno.ENOSPC, "is full"), (errno.ENAMETOOLONG, "another name")])
def test_failed_writing_is_reported(place: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    files = SessionFiles(folder := TemporaryFolder())
    with pytest.raises(ImageError, match=reason):
        files.write("a.png", b"words")
    assert not list(place.rglob("a.png"))
    folder.close()
