"""Copies of image files: what is kept of them, what is named as removed, their pages and animations."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hidden_metadata import HIDING, MARKER, srgb_profile
from numpy.typing import NDArray
from PIL import Image

from scrfd_trt._image_files import ImageFrame, open_image, read_image
from scrfd_trt._image_files.metadata import Metadata, read_metadata
from scrfd_trt._image_files.write import write_image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spots", "known_overlays")]
Run = Callable[..., Any]
SIZE = (160, 120)
BOX = (40, 30, 90, 100)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def spot(shift: int = 0) -> NDArray[np.uint8]:
    image = np.full((SIZE[1], SIZE[0], 3), 80, np.uint8)
    image[BOX[1] : BOX[3], BOX[0] + shift : BOX[2] + shift] = 255
    return image


def write(name: str, frames: list[ImageFrame], **options: Any) -> Path:
    file = io.BytesIO()
    write_image(file, iter(frames), Path(name).suffix, **options)
    Path(name).write_bytes(file.getvalue())
    return Path(name)


def hides(image: NDArray[np.uint8], shift: int = 0) -> bool:
    return int(image[BOX[1] + 20 : BOX[3] - 20, BOX[0] + shift + 15 : BOX[2] + shift - 15].max()) < 40


def test_removed_metadata_is_named_once(run: Run) -> None:
    for name, kind in (("a.jpg", "jpeg"), ("b.png", "png"), ("c.webp", "webp")):
        Path(name).write_bytes(HIDING[kind]())
    write("plain.jpg", [ImageFrame(spot())])
    ran = run("anonymize", "a.jpg", "b.png", "c.webp", "plain.jpg", "--replace-with", "solid", "-o", "out")
    assert ran.code == 0, ran.err
    assert (
        "metadata removed from 3 images: author, title, description, copyright, credit, dates, camera, lens, location, "
        "further EXIF, maker notes, further IPTC, further XMP, Photoshop resources, comments, further texts, "
        "embedded previews, further pictures, a motion video, C2PA, other data, data behind the picture\n"
    ) in ran.err
    assert "a.jpg and 2 more: this is a 360° image; faces are detected in the flat picture" in ran.err
    assert ran.err.index("360° image") < ran.err.index("wrote ")
    for path in Path("out").iterdir():
        assert MARKER not in path.read_bytes()
        assert not read_metadata(path.read_bytes(), open_image(path).kind).fields
    assert read_metadata(Path("out/a.jpg").read_bytes(), "jpeg").is_equirectangular


def test_metadata_and_location_are_kept_apart(run: Run) -> None:
    Path("a.jpg").write_bytes(HIDING["jpeg"]())
    found = read_metadata(Path("a.jpg").read_bytes(), "jpeg")
    for flags in ((), ("--keep-metadata",), ("--keep-location",), ("--keep-metadata", "--keep-location")):
        ran = run("anonymize", "a.jpg", "--replace-with", "solid", "-o", "b.jpg", "--overwrite", *flags)
        assert ran.code == 0, ran.err
        data = Path("b.jpg").read_bytes()
        kept = found.kept(descriptive="--keep-metadata" in flags, location="--keep-location" in flags)
        assert read_metadata(data, "jpeg").fields == kept.fields
        assert ("author, " in ran.err) == ("--keep-metadata" not in flags)
        assert MARKER not in data


def test_metadata_that_does_not_fit_is_named(run: Run) -> None:
    write("a.png", [ImageFrame(spot())], metadata=Metadata({"title": "Street"}))
    ran = run("anonymize", "a.png", "--replace-with", "solid", "-o", "a.bmp", "--keep-metadata")
    assert ran.code == 0, ran.err
    assert "metadata removed from 1 image: title\n" in ran.err


def test_colour_profile_and_resolution_stay(run: Run) -> None:
    Image.fromarray(spot()).save("a.jpg", icc_profile=srgb_profile(), dpi=(240, 240))
    assert run("anonymize", "a.jpg", "--replace-with", "solid").code == 0
    with Image.open("a_anonymized.jpg") as image:
        assert image.info["icc_profile"] == srgb_profile()
        assert image.info["dpi"] == (240, 240)


def test_erased_areas_stay_erased(run: Run) -> None:
    alpha = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    alpha[:, :65] = 0
    rgba = np.dstack([spot(), alpha])
    cv2.imwrite("a.png", rgba)
    assert run("anonymize", "a.png", "--replace-with", "solid", "--except-region", "0,0,160,120").code == 0
    copy = cv2.imread("a_anonymized.png", cv2.IMREAD_UNCHANGED)
    assert copy is not None
    np.testing.assert_array_equal(copy[..., 3], alpha)
    assert (copy[:, :65, :3] == 0).all()
    ran = run("anonymize", "a.png", "--replace-with", "solid", "--except-region", "0,0,160,120", "-o", "b.jpg")
    assert "transparent areas are white, since .jpg files have no transparency\n" in ran.err
    flat = cv2.imread("b.jpg")
    assert flat is not None
    assert (flat[:, :56] > 245).all()


def test_a_face_in_the_alpha_channel_is_covered(run: Run) -> None:
    stencil = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    stencil[..., 3] = 255 - spot()[..., 0]
    write("a.png", [ImageFrame(stencil[..., :3], stencil[..., 3])])
    write("b.gif", [ImageFrame(stencil[..., :3], (spot()[..., 0] < 200) * np.uint8(255), 0.1)] * 2, animation=True)
    assert run("anonymize", "a.png", "b.gif", "--replace-with", "solid", "-o", "out").code == 0
    for name in ("a.png", "b.gif"):
        copy = read_image(Path("out") / name)
        assert hides(copy.visible())
        assert copy.alpha is None or (copy.alpha[BOX[1] + 20 : BOX[3] - 20, BOX[0] + 15 : BOX[2] - 15] == 255).all()


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_all_pages_are_covered(run: Run, name: str) -> None:
    write(name, [ImageFrame(spot()), ImageFrame(spot(30)), ImageFrame(np.full((50, 60, 3), 80, np.uint8))])
    ran = run("anonymize", name, "--replace-with", "solid", "-o", f"b{Path(name).suffix}")
    assert ran.code == 0, ran.err
    assert f"wrote b{Path(name).suffix}: 3 pages, 2 faces\n" in ran.err
    assert "further pictures" not in ran.err
    pages = list(open_image(Path(f"b{Path(name).suffix}")).frames())
    assert [page.pixels.shape[1::-1] for page in pages] == [SIZE, SIZE, (60, 50)]
    assert hides(pages[0].pixels)
    assert hides(pages[1].pixels, 30)
    ran = run("anonymize", name, "--replace-with", "solid", "-o", "b.png")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "cannot write b.png: .png files hold one picture, and this has several; name a .tif file" in ran.err
    assert not Path("b.png").exists()


def test_pages_are_reported_and_read_again(run: Run) -> None:
    write("a.tif", [ImageFrame(spot()), ImageFrame(spot(30))])
    write("b.png", [ImageFrame(spot())])
    rows = [json.loads(line) for line in run("detect", "a.tif", "b.png", "-f", "jsonl").out.splitlines()]
    assert [(row["image"], row.get("page"), len(row["faces"])) for row in rows] == [
        ("a.tif", 1, 1), ("a.tif", 2, 1), ("b.png", None, 1),
    ]  # fmt: skip
    assert "a.tif, page 2  160×120, 1 face" in run("detect", "a.tif").out
    assert [line.split(",")[0] for line in run("detect", "a.tif", "-f", "csv").out.splitlines()] == [
        "image", "a.tif#page=1", "a.tif#page=2",
    ]  # fmt: skip
    names = [image["file_name"] for image in json.loads(run("detect", "a.tif", "-f", "coco").out)["images"]]
    assert names == ["a.tif#page=1", "a.tif#page=2"]
    rows[1]["faces"] = []
    Path("a.faces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = run("anonymize", "a.tif", "--detections", "a.faces.jsonl", "--replace-with", "solid", "-o", "c.tif")
    assert ran.code == 0, ran.err
    pages = [page.pixels for page in open_image(Path("c.tif")).frames()]
    assert hides(pages[0])
    np.testing.assert_array_equal(pages[1], spot(30))
    Path("a.faces.jsonl").write_text(json.dumps(rows[0]) + "\n")
    ran = run("anonymize", "a.tif", "--detections", "a.faces.jsonl", "--replace-with", "solid", "-o", "d.tif")
    assert "has no faces of page 2 of this image" in ran.err
    assert not Path("d.tif").exists()


def test_marked_copies_have_all_pages(run: Run) -> None:
    write("a.tif", [ImageFrame(spot()), ImageFrame(spot(30))])
    assert run("detect", "a.tif", "--annotate", "out").code == 0
    assert open_image(Path("out/a.tif")).count == 2


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animations_stay_animations(run: Run, suffix: str) -> None:
    seconds = (0.1, 0.2, 0.3, 0.1)
    frames = [ImageFrame(spot(4 * number), None, time) for number, time in enumerate(seconds)]
    title = Metadata({"title": "Street"})
    write(f"a{suffix}", frames, animation=True, loops=3, metadata=title, count=len(frames))
    write("still.png", [ImageFrame(spot())])
    ran = run("anonymize", f"a{suffix}", "still.png", "--replace-with", "solid", "-o", "out")
    assert ran.code == 0, ran.err
    assert "not kept: metadata (title)" in ran.err
    file = open_image(Path(f"out/a{suffix}"))
    found = list(file.frames())
    assert (file.loops, [frame.seconds for frame in found]) == (3, list(seconds))
    assert all(hides(frame.pixels, 4 * number) for number, frame in enumerate(found))
    assert (
        "a.jpg: animated images are not written as .jpg; use one of: .gif, .png, "
        in run("anonymize", f"a{suffix}", "-o", "a.jpg").error
    )
    if suffix == ".gif":
        assert run("anonymize", f"a{suffix}", "--replace-with", "solid", "-o", "b.mp4").code == 0
        assert Path("b.mp4").exists()
    ran = run("detect", f"a{suffix}", "-f", "jsonl")
    assert [json.loads(line)["frame"] for line in ran.out.splitlines()[1:5]] == [0, 1, 2, 3]


def test_reduced_depth_is_named(run: Run) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, spot().astype(np.uint16) * 257)
    write("c.png", [ImageFrame(spot())])
    ran = run("anonymize", "a.png", "b.png", "c.png", "--replace-with", "solid", "-o", "out")
    assert "2 of 3 images: 16 bits per channel are reduced to 8\n" in ran.err


def test_quality_applies_to_animations(run: Run) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, SIZE[1], SIZE[0], 3)).astype(np.uint8)
    write("a.webp", [ImageFrame(one, None, 0.1) for one in noise], animation=True)
    for quality in (20, 90):
        assert (
            run("anonymize", "a.webp", "--replace-with", "solid", "-o", f"{quality}.webp", "--quality", quality).code
            == 0
        )
    assert Path("20.webp").stat().st_size * 2 < Path("90.webp").stat().st_size


def test_options_of_videos_are_refused_for_animated_images(run: Run) -> None:
    write("a.gif", [ImageFrame(spot(), None, 0.1), ImageFrame(spot(4), None, 0.1)], animation=True)
    for flags in (("--codec", "h264"), ("--crf", "20"), ("--preset", "fast"), ("--audio", "drop"), ("--no-subtitles",)):
        ran = run("anonymize", "a.gif", "--replace-with", "solid", *flags)
        assert ran.code == 2
        assert ran.error == f"{flags[0]} applies to video files only, and none is written; leave it out"
        assert not Path("a_anonymized.gif").exists()


@pytest.mark.parametrize(("subject", "damage"), [("file is ", "cut off after"), ("image is damaged (", "Corrupt JPEG")])
def test_damaged_image_is_kept_on_request(subject: str, damage: str, run: Run) -> None:
    data = write("whole.jpg", [ImageFrame(spot())]).read_bytes()
    Path("cut.jpg").write_bytes(data[:-2] if "cut" in damage else data[:-90] + data[-50:])
    for command in (("anonymize", "--replace-with", "solid"), ("overlay", "--overlay", "solid"), ("detect",)):
        name = f"{command[0]}.jpg"
        output = () if command[0] == "detect" else ("-o", name)
        ran = run(command[0], "cut.jpg", *command[1:], *output)
        assert ran.code == 1
        assert ran.err.startswith(f"error: cut.jpg: the {subject}{damage}")
        assert ran.err.endswith("copy or download it again, or use --damaged keep\n")
        assert not Path(name).exists()
        ran = run(command[0], "cut.jpg", "--damaged", "keep", *command[1:], *output)
        assert ran.code == 0, ran.err
        assert f"warning: cut.jpg: the image is damaged: {damage}" in ran.err
        again = (*output, "--overwrite") if output else ()
        assert run(command[0], "cut.jpg", "--damaged", "keep", *command[1:], *again, "-q").err == ""
        assert not output or hides(read_image(Path(name)).pixels)


def test_number_of_pixels_is_limited(run: Run) -> None:
    write("a.png", [ImageFrame(spot())])
    for command in (("detect",), ("anonymize", "--overwrite")):
        ran = run(command[0], "a.png", "--max-pixels", "0.01", *command[1:])
        assert ran.code == 1
        told = "a.png: the image has 160×120 pixels, more than 0.01 million: make it smaller, or raise --max-pixels"
        assert ran.err == f"error: {told}\n"
        assert run(command[0], "a.png", "--max-pixels", "0.02", *command[1:]).code == 0
    write("b.gif", [ImageFrame(spot(), None, 0.1)] * 2, animation=True)
    ran = run("anonymize", "b.gif", "--max-pixels", "0.01")
    assert (ran.code, "more than 0.01 million: make it smaller, or raise" in ran.err) == (1, True)
    assert run("anonymize", "b.gif", "--max-pixels", "0.02").code == 0
    Path("a.mp4").write_bytes(b"x")
    assert "--max-pixels applies to images only" in run("anonymize", "a.mp4", "--max-pixels", "9").err
