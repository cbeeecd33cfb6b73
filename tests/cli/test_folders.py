"""Folders are searched by name and content, and no image or video is skipped without a word."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli import folders
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.inputs import find_inputs
from scrfd_trt.errors import ImageError

Run = Callable[..., Any]
Picture = Callable[..., Path]
Film = Callable[..., Path]
PNG = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
posix_only = pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    path = tmp_path / "in"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def write(*names: str, data: bytes = PNG) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)


def search(*inputs: str, recursive: bool = False, skip: tuple[Path, ...] = ()) -> tuple[list[str], LeftOut]:
    left_out = LeftOut()
    sources = find_inputs(inputs or ["."], recursive=recursive, skip=skip, left_out=left_out)
    return [source.path.as_posix() for source in sources if not source.problem], left_out


def test_content_decides_where_the_suffix_is_unknown() -> None:
    write("noext", "x.insp", "x.jpg_large", "a.jpg.")
    write("notes.txt", "code.py", data=b"some words\n")
    write("music.wav", data=b"RIFF\0\0\1\0WAVEfmt ")
    assert search() == (["a.jpg.", "noext", "x.insp", "x.jpg_large"], LeftOut())


def test_video_with_unknown_suffix(film: Film, folder: Path) -> None:
    path = film("clip.mp4", frames=2)
    path.rename(folder / "clip.insv")
    os.chdir(folder)
    write("cut.insv", data=b"\0\0\0\x18ftypisom\0\0\2\0isom" + bytes(40))
    found, left_out = search()
    assert found == ["clip.insv"]
    ((path, reason),) = left_out.files
    assert path == Path("cut.insv")
    assert reason.startswith("cannot be read as a video: ")


def test_formats_that_are_not_read_are_named() -> None:
    write("a.jxl", data=b"\xff\x0a" + bytes(20))
    write("b.tga", data=bytes(30) + b"TRUEVISION-XFILE.\0")
    write("c.tga", data=b"\1\2\0" + bytes(range(100, 200)))
    write("d.nef", data=b"II*\0" + bytes(100))
    write("e.cr2", data=b"\xff\xd8\xff\xe0" + bytes(100))  # an image that is read, whatever its name
    found, left_out = search()
    assert found == ["e.cr2"]
    reasons = ("a.jxl: JPEG XL", "b.tga: Targa", "c.tga: Targa", "d.nef: camera raw")
    assert left_out.groups() == {"4 files skipped": [f"{reason} is not supported" for reason in reasons]}


def test_long_lists_are_shortened() -> None:
    write(*(f"{number:02}.jxl" for number in range(23)), data=b"\xff\x0a" + bytes(20))
    lines = search()[1].groups()["23 files skipped"]
    assert lines[19:] == ["19.jxl: JPEG XL is not supported", "and 3 more"]


def test_hidden_files_and_folders_are_named_if_they_hold_images() -> None:
    write("a.png", ".b.png", ".thumbs/c.png", ".git/objects/d.png")
    write(".e", ".config/notes", "._a.png", data=b"words")
    write(".scrfd-trt-0123.part", ".scrfd-trt-4567/x.png")
    found, left_out = search(recursive=True)
    assert found == ["a.png"]
    assert left_out.groups() == {
        "1 file skipped": [".b.png: hidden; name it to process it"],
        "2 hidden folders with images or videos not searched; name a folder to search it": [".git", ".thumbs"],
    }


def test_subfolders_are_named_if_they_hold_images() -> None:
    write("a.png", "deep/er/b.png", "c.jpg/d.png", "jxl/e.jxl")
    write("jxl/e.jxl", data=b"\xff\x0a" + bytes(20))
    write("texts/notes.txt", "out/texts/notes.txt", data=b"words")
    write("out/copy.png")
    assert search(skip=(Path("out"),))[1].groups() == {
        "3 subfolders with images or videos not searched; add --recursive": ["c.jpg", "deep", "jxl"]
    }
    assert search(recursive=True, skip=(Path("out"),))[0] == ["a.png", "c.jpg/d.png", "deep/er/b.png"]


def test_output_folder_within_a_subfolder_does_not_count() -> None:
    write("sub/out/copy.png")
    assert search(skip=(Path("sub/out"),))[1] == LeftOut()
    assert search()[1].folders == [Path("sub")]


def test_subfolder_too_large_to_look_through_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_LOOKED_AT", 3)
    write(*(f"texts/{number}" for number in range(4)), data=b"words")
    assert search()[1].folders == [Path("texts")]


@posix_only
def test_links_to_folders(tmp_path: Path) -> None:
    write("sub/a.png")
    write(str(tmp_path / "other" / "b.png"))
    Path("inside").symlink_to("sub")
    Path("outside").symlink_to(tmp_path / "other")
    Path("loop").symlink_to(".")
    found, left_out = search(recursive=True)
    assert found == ["sub/a.png"]
    assert left_out.groups() == {
        "1 linked folder with images or videos not searched; name a folder to search it": ["outside"]
    }


@posix_only
def test_special_files_are_not_opened() -> None:
    write("a.png")
    for name in ("pipe", "pipe.jpg", "pipe.mp4", ".pipe"):
        os.mkfifo(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        sources = find_inputs(["."])
    assert not any(source.is_video for source in sources if source.path.suffix != ".mp4")
    assert {source.path.name: source.problem for source in sources} == {
        "a.png": "",
        "pipe.jpg": "this is a named pipe, not a file; copy the content into a file",
        "pipe.mp4": "this is a named pipe, not a file; copy the content into a file",
        "socket.png": "this is a socket, not a file; copy the content into a file",
    }
    assert [source.problem[:21] for source in find_inputs(["pipe", os.devnull])] == [
        "this is a named pipe,",
        "this is a device, not",
    ]


@posix_only
@pytest.mark.usefixtures("spots", "known_overlays")
def test_named_pipe_gives_one_line_in_every_command(run: Run) -> None:
    write("a.png")
    os.mkfifo("pipe")
    for args in (
        ("detect", "pipe"),
        ("tracks", "pipe"),
        ("anonymize", "pipe", "-o", "out.png"),
        ("anonymize", "a.png", "-o", "out.png", "--replace-with", "img", "--replace-image", "pipe"),
        ("overlay", "a.png", "-o", "out.png", "--overlay", "image:picture=pipe"),
        ("anonymize", "a.png", "-o", "out.png", "--detections", "pipe"),
        ("detect", "a.png", "--model", "./pipe"),
        ("bench", "pipe"),
    ):
        ran = run(*args)
        assert ran.code in {1, 2}, args
        assert "pipe" in ran.error
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "pipe"]


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="no /proc")
def test_files_of_proc_are_not_read() -> None:
    (source,) = find_inputs(["/proc/kmsg"])  # reading it waits for messages of the kernel
    assert not source.is_video
    with pytest.raises(ImageError, match="the file is empty"):
        source.check()
    assert search("/proc/sys/kernel") == ([], LeftOut())


@posix_only
def test_links_that_lead_to_no_file() -> None:
    Path("dead.jpg").symlink_to("nowhere")
    Path("dead").symlink_to("nothing")
    Path("loop.jpg").symlink_to("loop.jpg")
    assert [(source.path.name, source.problem[:24]) for source in find_inputs([".", "dead"])] == [
        ("dead.jpg", "the link leads to no fil"),
        ("loop.jpg", "the file cannot be read:"),
        ("dead", "the link leads to no fil"),
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file that cannot be read")
def test_file_that_cannot_be_read_is_named() -> None:
    write("secret")
    Path("secret").chmod(0)
    assert search()[1].files == [(Path("secret"), "cannot be read: Permission denied")]


def test_typescript_is_no_video() -> None:
    write("code.ts", data=b"export interface A {}\n")
    write("damaged.ts", data=bytes(100))
    assert search() == (["damaged.ts"], LeftOut())


@pytest.mark.usefixtures("spots")
@pytest.mark.parametrize(("command", "code"), [("detect", 0), ("anonymize", 1), ("overlay", 0)])
def test_report_and_exit_code(run: Run, picture: Picture, known_overlays: None, command: str, code: int) -> None:
    picture("a.png")
    write("b.jxl", data=b"\xff\x0a" + bytes(20))
    write("sub/c.png")
    args = {"detect": (), "anonymize": ("-o", "out"), "overlay": ("--overlay", "blur", "-o", "out")}[command]
    ran = run(command, ".", *args)
    label, ends = ("error", " (exit code 1)") if code else ("warning", "")
    assert ran.code == code
    assert ran.err.endswith(
        f"{label}: 1 file skipped{ends}:\n- b.jxl: JPEG XL is not supported\n"
        f"{label}: 1 subfolder with images or videos not searched; add --recursive{ends}:\n- sub\n"
    )
    quiet = run(command, ".", *args, *(("--overwrite",) if args else ()), "--quiet")
    assert quiet.code == code
    assert quiet.err.count("\n") == (4 if code else 0)


def test_copies_of_an_earlier_run_are_left_out(run: Run, picture: Picture, known_overlays: None) -> None:
    picture("a.png"), picture("a_anonymized.png")
    ran = run("anonymize", "a.png", "a_anonymized.png", "--overwrite", "--dry-run")
    assert ran.out == "read a.png, write a_anonymized.png\n"
    assert ran.err.startswith("warning: a_anonymized.png: left out, as it is the copy of another input")
    assert run("anonymize", "a.png", "-o", "x.png", "--dry-run").out == "read a.png, write x.png\n"
    picture("b.png"), picture("b_anonymized.png")
    ran = run("anonymize", "*.png", "--overwrite", "--dry-run")
    assert ran.out == "read a.png, write a_anonymized.png\nread b.png, write b_anonymized.png\n"
    assert ran.err.startswith(
        "warning: 2 files, a_anonymized.png the first: left out, as they are copies of other inputs"
    )


@pytest.mark.parametrize(("inputs", "code"), [(("a.png",), 2), (("*.png",), 1)])
def test_dry_run_with_a_refused_input_fails(
    inputs: tuple[str, ...], code: int, run: Run, picture: Picture, known_overlays: None
) -> None:
    picture("a.png"), picture("a_anonymized.png"), picture("b.png")
    ran = run("anonymize", *inputs, "--dry-run")
    assert ran.code == code
    assert "a_anonymized.png already exists" in ran.err + ran.out
