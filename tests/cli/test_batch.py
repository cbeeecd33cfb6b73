"""Piles of pictures in parts: the same faces as ``detect``, and a job that goes on after any end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli.pile_copies import relative_name
from scrfd_trt._cli.progress import PileProgress
from scrfd_trt._jobs import decoders
from scrfd_trt.distributed import _stores
from scrfd_trt.distributed._parts import Output

from .conftest import PROGRAM

pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.usefixtures("spots")
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def pile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in two folders, one of which is none."""
    monkeypatch.chdir(tmp_path)
    draw(7)
    Path("in/b/3.png").write_text("no image")
    Path("in/clip.mp4").touch()


def draw(number: int) -> None:
    for each in range(number):
        path = Path("in", "ab"[each % 2], f"{each}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((60, 80 + each, 3), 60, np.uint8)
        image[20:40, 2 + each : 22 + each] = 255
        cv2.imwrite(str(path), image)


def rows(table: str = "faces", out: str = "out") -> list[dict[str, Any]]:
    return [row for path in sorted(Path(out, table).iterdir()) for row in pq.read_table(path).to_pylist()]


def test_faces_are_those_of_detect(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("batch", "in", "out", "--part-size", "3")
    assert ran.code == 1
    assert ran.err.splitlines()[1:] == [
        "warning: left out: .mp4 files (1)",
        f"wrote {Path('out').absolute()}: 7 images, 6 faces",
        f"error: 1 of 7 images failed; see {Path('out').absolute()}/errors",
    ]
    assert len(list(Path("out/faces").iterdir())) == 3
    assert [Path(row["image"]).name for row in rows()] == ["0.png", "2.png", "4.png", "6.png", "1.png", "5.png"]
    run("detect", "in/a", "in/b", "-o", "d.parquet")
    expected = [row | {"image": str(Path(row["image"]).absolute())} for row in pq.read_table("d.parquet").to_pylist()]
    assert rows() == [{k: v for k, v in row.items() if k != "error"} for row in expected if row["error"] is None]
    assert rows("errors") == [{"image": row["image"], "error": row["error"]} for row in expected if row["error"]]
    report = json.loads(Path("out/report.json").read_text())
    assert report["parts"] == 3
    assert report["this_run"]["pictures"] == report["pictures"] == 7
    monkeypatch.setattr(decoders, "MIN_TO_FORK", 2)
    monkeypatch.setattr(decoders, "MIN_FORKS", 2)
    monkeypatch.setattr("scrfd_trt.distributed._parts.KNOWN", 5)
    run("batch", "in", "forked", "--part-size", "3", "--workers", "2")
    assert rows(out="forked") == rows()
    run("batch", "out/errors", "again")  # the failures are a list of pictures, too
    assert rows("errors", "again") == rows("errors")


def test_a_run_goes_on_or_is_refused(run: Run) -> None:
    run("batch", "in", "out", "--part-size", "3")
    first = {path.name: path.stat().st_mtime_ns for path in Path("out/faces").iterdir()}
    (gone,) = Path("out/faces").glob("part-0000001-*")
    gone.unlink()
    ran = run("batch", "in", "out", "--part-size", "3", "--batch", "2")
    assert "processed 3 images" in ran.err
    assert "skipped 2 parts done before" in ran.err
    again = {path.name: path.stat().st_mtime_ns for path in Path("out/faces").iterdir()}
    assert [name for name in again if again[name] != first[name]] == [gone.name]
    error = run("batch", "in", "out", "--part-size", "3", "--threshold", "0.3").error
    assert error.startswith("the run was begun with threshold 0.5, and now it is 0.3; leave the options")
    error = run("batch", "in/a", "out", "--part-size", "3").error
    assert error.startswith("the run was begun with source ")
    Path("in/a/0.png").touch()
    assert "the source has changed: part 0 held other pictures" in run("batch", "in", "out", "--part-size", "3").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothere", "out"), "nothere: there is no such file or folder"),
        (("empty", "out"), "empty: there are no pictures"),
        (("in", "in/a"), "in/a: the folder holds other files, and no run.json"),
        (("in", "ftp://host/x"), "ftp://host/x: it cannot be opened: "),
    ],
)
def test_mistakes_are_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    Path("empty").mkdir()
    ran = run("batch", *arguments)
    assert ran.code == 2
    assert message in ran.error


@pytest.mark.parametrize("lines", ["lost0.jpg\nlost1.jpg\n", "in/a/0.png\nin/a/2.png\nin/a/4.png\n\0\n"])
def test_a_source_that_ends_early(run: Run, lines: str) -> None:
    Path("list.txt").write_text(lines)
    ran = run("batch", "list.txt", "out", "--part-size", "2")
    assert ran.code == 1
    reason = "no picture of part 0 can be read: there is no such file" if "lost" in lines else "this is no list"
    assert reason in ran.err
    assert ran.err.endswith("; the same command continues from here\n")


@pytest.mark.slow
@pytest.mark.usefixtures("known_overlays")
@pytest.mark.parametrize("place", [pytest.param("here", marks=pytest.mark.slow), "elsewhere"])
def test_copies_are_those_of_anonymize(run: Run, film: Callable[..., Path], place: str) -> None:
    film("in/clip.mp4", (), 3)
    Path("in/copies").mkdir()
    Path("in/b/1.png").rename("in/copies/1.png")
    run("anonymize", "in", "-r", "-o", "expected", "--overlay", "solid")
    source, out = ("in", "out") if place == "here" else (f"file://{Path('in').absolute()}", "mock://store/out")
    _stores._store.cache_clear()
    ran = run("batch", source, out, "--anonymize", "--overlay", "solid", "--part-size", "4")
    assert ran.code == 1
    assert "8 images, " in ran.err
    output = Output(out, "index")
    for path in Path("expected").rglob("*.*"):
        with output.place.join(f"copies/{path.relative_to('expected').as_posix()}").open_stream() as file:
            assert path.suffix == ".mp4" or file.read() == path.read_bytes()
    assert output.totals()["failures"] == 1
    assert output.place.join("copies/b/3.png").stat() is None
    assert "skipped 2 parts" in run("batch", source, out, "--anonymize", "--overlay", "solid", "--part-size", "4").err


@pytest.mark.usefixtures("known_overlays")
def test_each_copy_has_its_own_name(run: Run, film: Callable[..., Path]) -> None:
    film("in/clip.mp4", (), 2)
    film("in/clip.mts", (), 3, form="mpegts")
    assert run("batch", "in", "out", "--anonymize", "--part-size", "1").code == 1
    names = [row["copy"] for row in rows("index")]
    assert len(set(names)) == 8
    assert all(Path("out/copies", name).is_file() for name in names)


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (("/in/b/a.png", "/in/b/../a.png"), ("b/a.png", "b/a-*.png")),
        (("s3://in/x%20y.png", "s3://in//x y.png"), ("s3/in/x y.png", "s3/in/x y-*.png")),
        (("https://h/i?id=1", "https://u:secret@h/i?id=2"), ("https/h/i-*", "https/h/i-*")),
        (("/in/p.parquet#row=7", "/other/a.jpg"), ("p.parquet/7", "other/a.jpg")),
    ],
)
def test_names_of_copies(addresses: tuple[str, ...], names: tuple[str, ...]) -> None:
    found = [relative_name(address, "/in") for address in addresses]
    assert len(set(found)) == 2
    assert all(map(fnmatchcase, found, names)), found
    assert relative_name("s3://in/x%20y.png?region=r", "s3://in?region=r") == "x y.png"


def test_overlays_of_copies_hide_faces(run: Run) -> None:
    assert "--overlay requires --anonymize" in run("batch", "in", "out", "--overlay", "solid").error
    assert "--max-faces would leave faces visible" in run("batch", "in", "out", "--anonymize", "--max-faces", "1").error
    assert "does not hide faces" in run("batch", "in", "out", "--anonymize", "--overlay", "boxes").error
    assert not Path("out").exists()


def test_progress_knows_the_rate_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown: list[tuple[int, float, float | None]] = []
    progress = PileProgress(lambda pile: shown.append((pile.done, pile.rate, pile.left)), 2.0)
    for second in range(1, 5):
        now[0] = second
        progress.advance()
        progress.total = 8 if second == 2 else progress.total
    assert shown == [(2, 1.0, None), (4, 1.0, 4.0)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_each_picture_once_after_a_stop(run: Run, popen: Callable[..., Any], number: signal.Signals) -> None:
    draw(60)
    command = ["batch", "in", "out", "--part-size", "10"]
    process = popen([sys.executable, str(PROGRAM), "0.05", *command], stderr=subprocess.PIPE)
    while not Path("out/faces").exists() or not list(Path("out/faces").glob("part*")):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode in {-signal.SIGKILL, 128 + signal.SIGTERM}
    if number == signal.SIGTERM:
        assert err.splitlines()[-1].endswith("; the same command continues from here")
    kept = {path: path.stat().st_mtime_ns for path in Path("out/faces").iterdir()}
    assert 1 <= len(kept) < 6
    assert run(*command).code == 0
    assert all(path.stat().st_mtime_ns == kept[path] for path in kept)
    assert [row["image"] for row in rows()] == sorted(str(path.absolute()) for path in Path("in").glob("?/*.png"))
