"""Nothing is left behind, however a studio ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from scrfd_trt._studio.folder import LOCK, PREFIX, Folder, clean

HOLD = """
from scrfd_trt._studio.folder import Folder
folder = Folder()
(folder.new() / "picture.png").write_bytes(b"secret")
print(flush=True)
input()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_made_when_something_is_kept(place: Path) -> None:
    folder = Folder()
    assert not list(place.iterdir())
    one, two = folder.new(), folder.new()
    assert one != two
    assert [path.name[: len(PREFIX)] for path in place.iterdir()] == [PREFIX]
    folder.close()
    folder.close()
    assert not list(place.iterdir())


def test_what_a_killed_studio_left_goes_when_the_next_begins(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        clean()
        assert list(place.rglob("picture.png")), "it runs still"
        process.kill()
    assert list(place.rglob("picture.png"))
    mine = Folder()
    mine.new()
    clean()
    assert not list(place.rglob("picture.png"))
    assert len(list(place.iterdir())) == 1
    mine.close()


def test_other_peoples_folders_stay(place: Path) -> None:
    (place / f"{PREFIX}without").mkdir()
    (place / "another").mkdir()
    (place / "another" / LOCK).touch()
    (place / f"{PREFIX}link").symlink_to(place / "another")
    (place / f"{PREFIX}file").touch()
    clean()
    assert len(list(place.iterdir())) == 4
    assert (place / "another" / LOCK).exists()
