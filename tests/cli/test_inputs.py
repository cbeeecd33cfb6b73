"""Inputs are found, told apart by name or content, and read or refused with one line."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pytest
from PIL import Image

from scrfd_trt._cli import inputs
from scrfd_trt._cli.inputs import find_inputs, is_video, read_image
from scrfd_trt.errors import ImageError, installable
from scrfd_trt.video import _pyav

pytestmark = pytest.mark.slow

Film = Picture = Callable[..., Path]
Run = Callable[..., Any]
IMAGE = np.random.default_rng(5).integers(0, 256, (40, 60, 3)).astype(np.uint8)
posix_only = pytest.mark.skipif(os.name == "nt", reason="the words of POSIX")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/c.webp", "deep/.git/d.jpg", "deep/er/e.tiff"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("empty").mkdir()
    return tmp_path


def paths(*names: str, recursive: bool = False, skip: tuple[Path, ...] = ()) -> list[str]:
    return [source.path.as_posix() for source in find_inputs(names, recursive=recursive, skip=skip)]


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_named_file_may_have_any_suffix(tree: Path) -> None:
    assert paths("notes.txt") == ["notes.txt"]


def test_folder_lists_images_sorted_by_name(tree: Path) -> None:
    assert paths(".") == ["a.PNG", "b.jpg"]


def test_recursion_skips_hidden_files_and_folders(tree: Path) -> None:
    assert paths(".", recursive=True) == ["a.PNG", "b.jpg", "deep/c.webp", "deep/er/e.tiff"]


def test_recursion_skips_output_folder(tree: Path) -> None:
    assert paths(".", recursive=True, skip=(Path("deep"),)) == ["a.PNG", "b.jpg"]


def test_glob_is_expanded(tree: Path) -> None:
    assert paths("*.jpg", "deep/*") == ["b.jpg", "deep/c.webp"]
    assert paths("**/*.tiff") == ["deep/er/e.tiff"]


def test_glob_sorts_by_folder_before_name(tree: Path) -> None:
    for name in ("deep-b/a.jpg", "deep/z.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"x")
    assert paths("deep*/*.jpg") == ["deep/z.jpg", "deep-b/a.jpg"]


def test_existing_file_whose_name_looks_like_glob(tree: Path) -> None:
    Path("b[1].jpg").write_bytes(b"x")
    assert paths("b[1].jpg") == ["b[1].jpg"]


def test_each_file_appears_once_in_input_order(tree: Path) -> None:
    assert paths("b.jpg", ".", str(tree / "b.jpg"), "./deep/../a.PNG") == ["b.jpg", "a.PNG"]


def test_relative_path_starts_at_input_folder(tree: Path) -> None:
    relative = [source.relative_path.as_posix() for source in find_inputs(["deep", "b.jpg"], recursive=True)]
    assert relative == ["c.webp", "er/e.tiff", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.jpg", "there is no such file"),
        ("nowhere/none.jpg", "there is no such file: there is no folder nowhere"),
        ("*.gif", "no file matches this pattern"),
        pytest.param("b.jpg/x.jpg", "the file cannot be read: Not a directory", marks=posix_only),
        pytest.param("a" * 300 + ".jpg", "the file cannot be read: File name too long", marks=posix_only),
        ("empty", "the folder contains no images or videos (.jpg, .mp4, …)"),
        ("only", "the folder contains no images or videos (.jpg, .mp4, …); add --recursive to search its subfolders"),
    ],
)
def test_missing_input_is_source_with_problem(tree: Path, text: str, message: str) -> None:
    Path("only/deep").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save("only/deep/a.png")
    sources = find_inputs(["b.jpg", text])
    assert [source.problem for source in sources] == ["", message]
    sources[0].check()
    with pytest.raises(ImageError, match="^" + message[:20]):
        sources[1].check()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that cannot be read")
def test_unreadable_folder_is_source_with_problem(tree: Path) -> None:
    Path("empty").chmod(0)
    try:
        assert "cannot be read" in find_inputs(["empty"])[0].problem
    finally:
        Path("empty").chmod(0o755)


def frame_count(path: str) -> int:
    av = pytest.importorskip("av")
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", ["clip.dat", "noext"])
def test_video_with_unknown_suffix(film: Film, name: str) -> None:
    assert is_video(film(name, form="matroska"))


@pytest.mark.parametrize(("frames", "animated"), [(1, False), (2, True), (5, True)])
@pytest.mark.parametrize("name", ["x.gif", "noext"])
def test_gif_is_video_if_animated(film: Film, name: str, frames: int, animated: bool) -> None:
    path = film(name, frames=frames, codec="gif", pixels="rgb8", form="gif")
    assert is_video(path) is animated


@pytest.mark.parametrize(("frames", "animated"), [(1, False), (3, True)])
def test_png_is_video_if_animated(film: Film, frames: int, animated: bool) -> None:
    path = film("x.png", frames=frames, codec="apng", pixels="rgb24", form="apng")
    assert is_video(path) is animated


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_image_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"photo\xff")
    path.write_bytes(cv2.imencode(".jpg", IMAGE)[1].tobytes())
    assert not is_video(path)
    assert read_image(path).pixels.shape == IMAGE.shape


@pytest.mark.parametrize("side", [12_000, 65_535])
def test_pixel_limits_of_pillow_do_not_apply_to_gifs(
    tmp_path: Path, side: int, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "large.gif"
    screen, frame = struct.pack("<HH3x", 1, 1), b"," + struct.pack("<4xHHx", side, side)
    path.write_bytes(b"GIF89a" + screen + frame + b"\x02\x02\x4c\x01\x00;")
    assert not is_video(path)
    assert not recwarn.list


def test_gif_cut_off_in_its_second_frame_is_video(tmp_path: Path) -> None:
    pictures = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())]
    path = tmp_path / "cut.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    data = path.read_bytes()
    second = data.index(b",\0\0\0\0<\0(\0", data.index(b",\0\0\0\0<\0(\0") + 1)
    path.write_bytes(data[: second + 5])
    assert is_video(path)
    path.write_bytes(data[:second])
    assert not is_video(path)


def test_png_with_still_image_and_one_frame_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    pictures = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], default_image=True)
    assert not is_video(path)


def test_images_and_other_files_are_not_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".tiff", ".ppm"):
        for name in (f"x{suffix}", f"{suffix[1:]}_without"):
            Path(name).write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    Path("notes.txt").write_text("some words\n" * 100)
    Path("empty").write_bytes(b"")
    Path("x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    Path("cut.gif").write_bytes(b"GIF89a\1\0\1\0\x80\0\0")
    Path("folder").mkdir()
    assert [path.name for path in Path().iterdir() if is_video(path)] == []
    assert not is_video(Path("nothing"))


def test_audio_file_with_cover_is_not_video(tmp_path: Path) -> None:
    picture = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    tags = b"\0\0\0\3" + len(b"image/jpeg").to_bytes(4, "big") + b"image/jpeg" + bytes(4)
    block = tags + bytes(16) + len(picture).to_bytes(4, "big") + picture
    info = b"\x10\x00\x10\x00" + bytes(6) + ((8000 << 44) | (15 << 36)).to_bytes(8, "big") + bytes(16)
    Path(tmp_path, "music").write_bytes(
        b"fLaC\0" + len(info).to_bytes(3, "big") + info + b"\x86" + len(block).to_bytes(3, "big") + block
    )
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "music")) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]
    assert not is_video(tmp_path / "music")


@pytest.mark.usefixtures("spots", "known_overlays")
@pytest.mark.parametrize("name", ["x.gif", "noext", "x.png"])
def test_all_frames_are_written(run: Callable[..., Any], film: Film, name: str) -> None:
    kinds: dict[str, dict[str, str]] = {
        "x.gif": {"codec": "gif", "pixels": "rgb8"},
        "noext": {"form": "matroska"},
        "x.png": {"codec": "apng", "pixels": "rgb24", "form": "apng"},
    }
    film(name, frames=10, hidden=(), **kinds[name])
    code, _, err = run("anonymize", name, "--replace-with", "solid")
    assert code == 0, err
    assert frame_count(f"{Path(name).stem}_anonymized{Path(name).suffix or '.mp4'}") == 10


@pytest.mark.usefixtures("spots", "known_overlays")
def test_gif_with_one_frame_is_image(run: Callable[..., Any], film: Film) -> None:
    film("x.gif", frames=1, hidden=(), codec="gif", pixels="rgb8")
    assert "wrote x.jpg: 1 face\n" in run("anonymize", "x.gif", "-o", "x.jpg").err


def test_video_suffix_decides_without_opening_file(tmp_path: Path) -> None:
    assert is_video(tmp_path / "none.MKV")


def test_pages_are_refused(tmp_path: Path) -> None:
    pictures = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())]
    pictures[0].save(tmp_path / "pages.tif", save_all=True, append_images=pictures[1:])
    with pytest.raises(ImageError, match=r"^the file has 2 pages, which is not supported"):
        read_image(tmp_path / "pages.tif")


def test_corrupt_jpeg_data_is_kept_with_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(cv2.imencode(".jpg", IMAGE)[1].tobytes())
    data[-40:-30] = b"\xff\xd4" * 5
    path = tmp_path / "damaged.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="the image is damaged"):
        read_image(path)
    assert read_image(path, "keep").pixels.shape == IMAGE.shape
    err = capfd.readouterr().err
    assert err.startswith("warning: the image is damaged: Corrupt JPEG data")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["a.mjpeg", "a.MJPG", "a.jpg", "a"])
def test_jpeg_images_one_after_another_are_a_video(name: str, tmp_path: Path) -> None:
    """FFmpeg reads the first image only of a file with the name of an image."""
    video = pytest.importorskip("scrfd_trt.video")
    pytest.importorskip("av")
    images = [cv2.imencode(".jpg", np.full((16, 16, 3), 20 * number, np.uint8))[1].tobytes() for number in range(8)]
    path = tmp_path / name
    path.write_bytes(b"".join(images))
    assert is_video(path)
    with video.open_source(path) as reader:
        assert [round(frame.image.mean() / 20) for frame in reader] == list(range(8))
    path.write_bytes(images[1] + images[2])  # such as a photograph and its depth map
    assert is_video(path) == (path.suffix.lower() in (".mjpeg", ".mjpg"))


def test_photograph_that_lists_others_is_no_video(tmp_path: Path) -> None:
    image = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(image[:2] + b"\xff\xe2\0\x06MPF\0" + image[2:] + image * 7)
    assert not is_video(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("notes.txt", b"words", "not an image or a video; if this is a list of paths, use --files-from"),
        ("data", bytes(range(256)), "not an image or a video"),
        ("l.m3u8", b"#EXTM3U\n#EXTINF:2,\nclip.mp4\n", "this is a playlist, and playlists are not opened: name the"),
        ("l.txt", b"ffconcat version 1.0\nfile clip.mp4\n", "this is a playlist"),
        ("l.mpd", b'<?xml version="1.0"?>\n<MPD></MPD>', "this is a playlist"),
        ("words.jpg", b"words", "not a supported image"),
    ],
)
@pytest.mark.usefixtures("spots")
def test_file_that_is_neither_image_nor_video(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    for command in ("anonymize", "detect"):
        ran = run(command, name)
        assert (ran.code, ran.error.startswith(f"{name}: {reason}")) == (1, True)


@pytest.mark.usefixtures("spots")
def test_videos_without_pyav_fail_and_images_are_done(
    run: Run, picture: Picture, film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("in/a.png")
    for name in ("in/b.mp4", "in/c.mkv"):
        film(name, frames=2)
    film("in/d", frames=2, form="mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    _pyav.load.cache_clear()
    for args in (("anonymize", "in", "-o", "out"), ("detect", "in")):
        ran = run(*args)
        reason = installable('videos need PyAV: pip install "scrfd-trt[video]"')
        assert ran.code == 1
        assert "error: 3 of 4 inputs failed, the others succeeded:\n" in ran.err
        assert f"- in/b.mp4, in/c.mkv, in/d: {reason}\n" in ran.err
        assert ran.err.count("PyAV") == 1
    assert Path("out/a.png").exists()
    ran = run("anonymize", "in/d")
    assert (ran.code, ran.error) == (1, f"in/d: {reason}")


@pytest.mark.usefixtures("spots")
def test_heic_without_its_package_fails_and_images_are_done(
    run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("in/a.png")
    for name in ("in/b.heic", "in/c.heic"):
        Path(name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    ran = run("anonymize", "in", "-o", "out")
    assert (ran.code, Path("out/a.png").exists()) == (1, True)
    assert "- in/b.heic, in/c.heic: " in ran.err
    assert ran.err.count("pip install") == 1


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Return a function that sets what standard input holds."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.usefixtures("spots")
class TestRemoteInputs:
    """Standard input and web addresses."""

    def test_standard_input_is_an_image_or_a_video(self, run: Run, picture: Picture, film: Film, stdin: Any) -> None:
        picture("own.png")
        stdin(picture().read_bytes())
        own, remote = lines(run("detect", "own.png", "-", "--format", "jsonl", "--annotate", "out").out)
        assert remote == {**own, "image": "-"}
        assert files_below(Path("out")) == ["own.png", "stdin.png"]
        stdin(film().read_bytes())
        assert run("detect", "-").out.startswith("-  160×120, 20 frames, 1 track")
        stdin(film().read_bytes())
        assert len(json.loads(run("tracks", "-", "--json").out)) == 1

    @pytest.mark.parametrize(
        ("args", "data", "message"),
        [
            (("detect", "-"), b"", "-: standard input is empty"),
            (("detect", "-"), b"some text\n", "-: not an image or a video"),
            (("tracks", "-"), b"", "-: standard input is empty"),
            (("detect", "-", "--files-from", "-"), b"x", "standard input is either an input or a list"),
            (("detect", "-", "--resume", "-o", "x.csv"), b"x", "-: --resume continues with files only"),
            (("anonymize", "-"), b"x", "- requires --output FILE"),
        ],
    )
    def test_standard_input_is_refused(
        self, run: Run, stdin: Any, args: tuple[str, ...], data: bytes, message: str
    ) -> None:
        stdin(data)
        assert run(*args).error.startswith(message)

    def test_addresses_are_downloaded(
        self, run: Run, picture: Picture, stdin: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = picture().read_bytes()

        def download(file: BinaryIO, address: str, **_: object) -> None:
            if "spot" not in address:
                raise ImageError("the server answers 404: check the address", subject=address)

            file.write(data)

        monkeypatch.setattr(inputs, "download_to", download)
        stdin(b"https://me:secret@host/a%20spot.png?size=2\nhttps://host/none.png\n")
        ran = run("detect", "--files-from", "-", "--format", "jsonl", "--annotate", "out")
        found, failed = lines(ran.out)
        assert found["image"] == "https://me:***@host/a%20spot.png?size=2"
        assert failed == {"image": "https://host/none.png", "error": "the server answers 404: check the address"}
        assert files_below(Path("out")) == ["a_spot.png"]
        for command in (("anonymize",), ("overlay", "skull")):
            assert run(*command, "https://host/spot", "-o", f"{command[0]}.png").code == 0
            assert (
                run(*command, "https://host/spot.png").error
                == "https://host/spot.png requires --output FILE, or --output - for standard output"
            )


@pytest.mark.usefixtures("spots")
def test_missing_last_input_may_be_meant_as_output(run: Run, picture: Picture) -> None:
    ran = run("anonymize", picture(), "out.png")
    assert "- out.png: there is no such file; to write it, use --output out.png" in ran.err
    assert "to write it" not in run("anonymize", "spot.png", "out.png", "-o", "new").err
