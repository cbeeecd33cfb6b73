"""Images and videos told apart by their names, or by what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt.cli.kinds import is_video

av = pytest.importorskip("av")
Film = Callable[..., Path]


def pictures(path: str) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", ["clip.dat", "noext"])
def test_a_video_whose_name_does_not_tell(film: Film, name: str) -> None:
    assert is_video(film(name, form="matroska"))


@pytest.mark.parametrize(("frames", "moves"), [(1, False), (2, True), (5, True)])
@pytest.mark.parametrize("name", ["x.gif", "noext"])
def test_a_gif_is_a_video_if_it_moves(film: Film, name: str, frames: int, moves: bool) -> None:
    path = film(name, frames=frames, codec="gif", pixels="rgb8", form="gif")
    assert is_video(path) is moves


@pytest.mark.parametrize(("frames", "moves"), [(1, False), (3, True)])
def test_a_png_is_a_video_if_it_moves(film: Film, frames: int, moves: bool) -> None:
    path = film("x.png", frames=frames, codec="apng", pixels="rgb24", form="apng")
    assert is_video(path) is moves


def test_images_and_other_files_are_no_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_cover_of_music_is_no_video(tmp_path: Path) -> None:
    picture = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    tags = b"\0\0\0\3" + len(b"image/jpeg").to_bytes(4, "big") + b"image/jpeg" + bytes(4)
    block = tags + bytes(16) + len(picture).to_bytes(4, "big") + picture
    info = b"\x10\x00\x10\x00" + bytes(6) + ((8000 << 44) | (15 << 36)).to_bytes(8, "big") + bytes(16)
    Path(tmp_path, "music").write_bytes(
        b"fLaC\0" + len(info).to_bytes(3, "big") + info + b"\x86" + len(block).to_bytes(3, "big") + block
    )
    with av.open(str(tmp_path / "music")) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]
    assert not is_video(tmp_path / "music")


@pytest.mark.usefixtures("spots", "known_overlays")
@pytest.mark.parametrize("name", ["x.gif", "noext", "x.png"])
def test_all_pictures_are_written(run: Callable[..., Any], film: Film, name: str) -> None:
    kinds: dict[str, dict[str, str]] = {
        "x.gif": {"codec": "gif", "pixels": "rgb8"},
        "noext": {"form": "matroska"},
        "x.png": {"codec": "apng", "pixels": "rgb24", "form": "apng"},
    }
    film(name, frames=10, hidden=(), **kinds[name])
    code, _, err = run("anonymize", name, "--replacewith", "solid")
    assert code == 0, err
    assert pictures(f"{Path(name).stem}_anonymized.mp4") == 10


@pytest.mark.usefixtures("spots", "known_overlays")
def test_a_gif_of_one_picture_stays_an_image(run: Callable[..., Any], film: Film) -> None:
    film("x.gif", frames=1, hidden=(), codec="gif", pixels="rgb8")
    # OpenCV reads GIFs from 4.11 on.
    told = "wrote x.jpg: 1 face\n" if cv2.imread("x.gif") is not None else "this is no image that OpenCV reads"
    assert told in run("anonymize", "x.gif", "-o", "x.jpg").err


def test_a_file_that_is_a_video_by_name_is_not_opened(tmp_path: Path) -> None:
    assert is_video(tmp_path / "none.MKV")
