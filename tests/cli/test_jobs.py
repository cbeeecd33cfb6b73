"""Jobs over many inputs: lists, shards, plans, and runs that go on where an earlier one ended."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import _files
from scrfd_trt._cli.batch import Tally
from scrfd_trt._cli.jobs import Shard, listed_paths
from scrfd_trt._jobs.decoders import OpenedImage
from scrfd_trt.errors import OptionError

from .conftest import files_below

pytestmark = [pytest.mark.usefixtures("spots"), pytest.mark.slow]
Run = Callable[..., Any]
Picture = Callable[..., Path]
SPOTS = Path(__file__).with_name("spot_network.py")
LEDGER = ".scrfd-trt-job.jsonl"


@pytest.fixture
def photos(picture: Picture) -> list[Path]:
    return [picture(f"in/{number % 3}/{number:02}.png", box=(40, 30, 90 + number, 100)) for number in range(9)]


def names(text: str) -> list[str]:
    return [Path(json.loads(line)["image"]).name for line in text.splitlines()]


@pytest.mark.parametrize("content", [b"a.png\nb c.png\n", b"\xef\xbb\xbfa.png\r\n\r\nb c.png", b"a.png\0b c.png\0"])
def test_list_of_inputs(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_bytes(content)
    assert listed_paths(tmp_path / "list") == ["a.png", "b c.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert listed_paths(Path("-")) == ["a.png", "b c.png"]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OptionError, match="standard input is closed"):
        listed_paths(Path("-"))


def test_copies_of_listed_files_keep_their_folders(run: Run, photos: list[Path]) -> None:
    Path("list").write_text(f"{photos[0]}\n{photos[4].absolute()}\n{photos[0]}\nin\nnone.png\n", encoding="utf-8")
    code, _, err = run("anonymize", "--files-from", "list", "-o", "out")
    below = photos[4].absolute().relative_to(photos[4].absolute().anchor)
    assert sorted(Path("out").rglob("*.png")) == sorted(Path("out", path) for path in (photos[0], below))
    assert code == 1
    assert "this is a folder; list its files" in err
    assert "none.png: there is no such file" in err
    assert "nothing: cannot be read: No such file" in run("detect", "--files-from", "nothing").error
    Path("list").write_bytes(b"")
    assert run("detect", "--files-from", "list").err == "warning: there are no inputs\n"


def test_shards_have_each_input_once(run: Run, photos: list[Path]) -> None:
    found = []
    for number in (1, 2, 3):
        assert run("detect", "in", "-r", "-o", "faces.jsonl", "--shard", f"{number}/3").code == 0
        assert run("overlay", "in", "-r", "--overlay", "boxes", "-o", "out", "--save-detections", "s.jsonl", "--shard",
                   f"{number}/3").code == 0  # fmt: skip
        assert names(Path(f"s-{number}-of-3.jsonl").read_text(encoding="utf-8"))
        found += names(Path(f"faces-{number}-of-3.jsonl").read_text(encoding="utf-8"))
    assert sorted(found) == sorted(path.name for path in photos)
    assert len(list(Path("out").rglob("*.png"))) == len(photos)
    for name, content, option in (
        ("one.csv", b"image,", "--resume"),
        ("one.jsonl", b"", "--resume"),
        ("one.json", b'{"images": []', "--overwrite"),
    ):
        for _ in range(2):
            assert run("detect", photos[0], "-o", name, "--shard", "2/99", option).code == 0
            assert Path(name.replace(".", "-2-of-99.")).read_bytes().startswith(content)
    args = ("overlay", photos[0], "--overlay", "boxes", "-o", "other/", "--save-detections", "two.jsonl")
    assert run(*args, "--shard", "2/99").code == 0
    assert Path("two-2-of-99.jsonl").read_bytes() == b""
    whole = Shard.parse("1/1")
    assert all(whole.holds(Path(name)) for name in ("a.png", "", "."))
    for same in (["a/x.heic", "a/X.jpg", "a/x", "a/x. "], ["b.1.png", "b.1.jpg"]):
        assert len({tuple(Shard(n, 50).holds(Path(name)) for n in range(1, 51)) for name in same}) == 1
    assert len({Shard(1, 2).holds(Path(f"frame.{number:04}.png")) for number in range(20)}) == 2
    for text in ("0/3", "4/3", "3", "a/b"):
        with pytest.raises(OptionError, match="from 1/3 to 3/3"):
            Shard.parse(text)


def test_plan_writes_nothing(run: Run, photos: list[Path], tmp_path: Path) -> None:
    Path("in/broken.png").touch()
    before = files_below(tmp_path)
    code, out, err = run("anonymize", "in", "-r", "-o", "out", "--dry-run", "--resume", "--model", "none.onnx")
    assert (code, err) == (1, "9 inputs would be read, 1 refused, 0 skipped\n")
    assert out.splitlines()[0].startswith("refuse in/broken.png: the file is empty")
    assert out.splitlines()[1:4] == [f"read in/0/{n}.png, write out/0/{n}.png" for n in ("00", "03", "06")]
    assert run("detect", photos[0], "-o", "a.csv", "--dry-run").out == f"read {photos[0]}, write a.csv\n"
    assert files_below(tmp_path) == before
    Path("a.csv").touch()
    assert "already exists" in run("detect", photos[0], "-o", "a.csv", "--dry-run").error


@pytest.mark.parametrize("cut", [1, 150, 700, 1100, 1450])
@pytest.mark.parametrize("name", ["faces.jsonl", "faces.csv", "faces.txt"])
def test_results_go_on_after_crash(run: Run, photos: list[Path], name: str, cut: int) -> None:
    Path("in/0/03.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("detect", "in", "-r", "-o", name, "--resume").code == 1
    whole = Path(name).read_bytes()
    ledger = Path(f".scrfd-trt-job-{name}.jsonl")
    Path(name).rename(f"{name}.part")
    with ledger.open("r+b") as file, Path(f"{name}.part").open("r+b") as part:
        file.truncate(cut)  # what a crash leaves: at most one line less than there are rows
        complete = [json.loads(line) for line in ledger.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        part.truncate(min(len(whole), max([0, *(line["rows"][1] for line in complete if "rows" in line)]) + 30))
    code, _, err = run("detect", "in", "-r", "-o", name, "--resume")
    assert code == 1, err
    done = sum(bool(line.get("input")) for line in complete)
    assert f"skipped {done} input" in err or not done
    if name != "faces.txt":  # tables have the time
        assert sorted(Path(name).read_bytes().splitlines()) == sorted(whole.splitlines())
    assert not Path(f"{name}.part").exists()


def test_changed_and_failed_inputs_are_done_again(run: Run, photos: list[Path], picture: Picture) -> None:
    good = photos[3].read_bytes()
    photos[3].write_bytes(good[:50])
    args = ("detect", "in", "-r", "-o", "faces.jsonl", "--annotate", "marked", "--resume")
    assert run(*args).code == 1
    photos[3].write_bytes(good)
    picture(str(photos[5]), box=None)
    Path("marked/1/04.png").unlink()
    code, _, err = run(*args)
    assert code == 0
    assert "wrote faces.jsonl: 3 images, 2 faces in this run; 6 done before\n" in err
    assert "processed 3 images" in err
    assert "skipped 6 inputs done before" in err
    rows = {row["image"]: row for row in map(json.loads, Path("faces.jsonl").read_text(encoding="utf-8").splitlines())}
    assert len(rows) == 9
    assert [len(rows[str(photos[index])]["faces"]) for index in (3, 4, 5)] == [1, 1, 0]
    again = run(*args)
    assert (again.code, again.out) == (0, "")
    assert again.err == "skipped 9 inputs done before\n"
    run("detect", "in", "-r", "-o", "new.jsonl")
    assert sorted(Path("new.jsonl").read_bytes().splitlines()) == sorted(Path("faces.jsonl").read_bytes().splitlines())


def test_copies_go_on(run: Run, photos: list[Path], picture: Picture) -> None:
    args = ("anonymize", "in", "-r", "-o", "out", "--resume")
    assert run(*args).code == 0
    files = {path: path.read_bytes() for path in Path("out").rglob("*.png")}
    times = {path: path.stat().st_mtime_ns for path in files}
    lines = Path("out", LEDGER).read_bytes().splitlines(keepends=True)
    Path("out", LEDGER).write_bytes(b"".join(lines[:4]) + lines[4][:20])  # copies without a line were not recorded
    old = Path("out/2/08.png")
    os.utime(old, (1e9, 1e9))
    code, _, err = run(*args)
    assert code == 1
    assert f"{old} already exists" in err  # it is older than the job
    assert "skipped 3 inputs" in err
    assert {path: path.read_bytes() for path in files} == files
    assert sum(path.stat().st_mtime_ns != times[path] for path in files) == 6
    picture("in/new.png")
    err = run(*args[:-1]).err
    assert "- 9 copies already exist, such as out/0/00.png; name another folder, add --overwrite" in err
    Path("in/new.png").unlink()
    picture("other/0/00.png")
    taken = run(*args[:2], "other", *args[2:])
    assert "out/0/00.png is the copy of in/0/00.png" in taken.err
    changed = run(*args, "--replace-with", "solid")
    assert changed.code == 2
    assert "the job was begun with replace with blur, and now it is solid" in changed.error


def test_videos_that_are_done_are_skipped(run: Run, film: Callable[..., Path]) -> None:
    Path("in").mkdir(exist_ok=True)
    for name, frames in (("in/a.mp4", 8), ("in/b.mp4", 2), ("in/c.mp4", 2)):
        film(name, frames=frames)
    Path("in/bad.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    assert run("anonymize", "in/a.mp4", "-o", "out/", "--resume").code == 0
    code, _, err = run("anonymize", "in", "-o", "out", "--resume", "--crf", "30")
    assert (code, "the job was begun without crf, and now it is 30" in err) == (2, True)
    Path("in/bad.mp4").unlink()
    code, _, err = run("anonymize", "in", "-o", "out", "--resume", "--progress", "none")
    assert "processed 2 videos" in err
    assert "skipped 1 input " in err


def test_jobs_that_cannot_be_recorded(run: Run, photos: list[Path]) -> None:
    for args, reason in (
        (("detect", "in", "-r"), "--resume requires --output, or --annotate of 'detect'"),
        (("detect", "in", "-r", "-o", "a.json"), "--resume continues only .jsonl, .csv and .txt files"),
        (("anonymize", photos[0], "-o", "b.png"), "there is none named b.png; create it first"),
        (("anonymize", "in", "-o", "out", "--overwrite"), "--resume and --overwrite exclude each other"),
    ):
        code, _, err = run(*args, "--resume")
        assert code == 2
        assert reason in err
    Path("a.csv.part").write_bytes(b"other")
    os.utime("a.csv.part", (1e9, 1e9))
    assert "a.csv.part is of another job" in run("detect", photos[0], "-o", "a.csv", "--resume").err


def test_speed_is_that_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(images=300, videos=1, frames=50, images_end=13.0)
    tally._print_speed(10.0, 15.0)
    assert capsys.readouterr().err == "processed 300 images (100.0 images/s) and 1 video (25.0 frames/s) in 5.0 s\n"


def test_stop_names_how_to_continue(run: Run, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OpenedImage, "open", stop)
    for option, end in (
        ("--resume", "deleted; the same command with --resume continues from here\n"),
        ("-q", "deleted\n"),
    ):
        code, _, err = run("anonymize", "in", "-r", "-o", "out", option)
        assert (code, err.endswith(end)) == (130, True), err


def test_job_goes_on_after_it_is_killed(run: Run, photos: list[Path]) -> None:
    args = ["detect", "in", "-r", "-o", "faces.jsonl", "--resume"]
    with subprocess.Popen([sys.executable, str(SPOTS), "0.1", *args], stderr=subprocess.PIPE) as process:
        part, until = Path("faces.jsonl.part"), time.monotonic() + 120
        while not part.exists() or part.stat().st_size < 500:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.kill()
    assert not Path("faces.jsonl").exists()
    code, _, err = run(*args)
    assert code == 0
    assert "skipped" in err
    assert names(Path("faces.jsonl").read_text(encoding="utf-8")) == sorted(
        p.name for p in photos if p.parent.name == "0"
    ) + [path.name for folder in "12" for path in photos if path.parent.name == folder]


def test_unfinished_files_of_a_killed_run_are_deleted(
    run: Run, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise OSError

    args = ["anonymize", "in", "-r", "-o", "out", "--resume", "--replace-with", "solid"]
    with monkeypatch.context() as patch:
        patch.setattr(_files, "_replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        assert run(*args).code == 1
        assert run(*args, "--shard", "1/1").code == 1
    left = sorted(Path("out").rglob(".scrfd-trt-*.part"))
    assert len(left) == 2 * len(photos)
    assert run(*args).code == 0
    of_shard = sorted(Path("out").rglob(".scrfd-trt-*.part"))
    assert len(of_shard) == len(photos)
    assert run(*args, "--shard", "1/1").code == 0
    assert not sorted(Path("out").rglob(".scrfd-trt-*.part"))
