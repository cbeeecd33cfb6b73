"""Photographs of a page: stages, edits, patches, and results that equal those of the command line."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import drawing
from scrfd_trt.errors import ClosedError, ImageError, OptionError
from scrfd_trt.models import DEFAULT_MODEL

pytest.importorskip("starlette")

from scrfd_trt._cli.application import app
from scrfd_trt._studio import photos
from scrfd_trt._studio.settings import Choice, Settings

pytestmark = pytest.mark.slow

SCENE = drawing.scene((640, 360), 3, seed=2)
SOLID = Settings(overlays=(Choice(name="solid", options={"fill": "#102030"}),), small_faces=False, rotations=False)
Look = Callable[[Any], Any]


def png(image: Any) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def pixels(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def photo(session: Any, look: Look) -> Any:
    """A photograph of three people, covered with one colour."""
    session.settings = SOLID
    return look(session.add("three.png", png(SCENE.image)))


def covered(photo: Any) -> Any:
    return photo._covered_picture()


def ids(photo: Any) -> list[int]:
    return [face["id"] for face in photo.faces()["faces"]]


def test_stages_show_results_early_and_keep_ids_and_choices(session: Any) -> None:
    photo = session.add("three.png", png(SCENE.image))
    assert photo.info()["state"] == "opening"
    with pytest.raises(ImageError, match="not known yet"):
        photo.picture(covered=True, side=100)
    assert photo.look()
    first = photo.faces()["faces"]
    assert (photo.info()["state"], photo.version, len(first)) == ("looking", 1, 3)
    photo.reviewed = True
    session.set_settings(session.settings.model_copy(update={"overlays": SOLID.overlays}), [photo])
    assert photo.reviewed
    assert [face["box"][0] for face in first] == sorted(face["box"][0] for face in first), "reading order"
    photo.edit({"op": "uncover", "faces": [first[1]["id"]]})
    assert photo.look()
    assert not photo.look()
    assert photo.info()["state"] == "ready"
    found = {face["id"]: face["covered"] for face in photo.faces()["faces"]}
    assert [found[face["id"]] for face in first] == [True, False, True]
    assert all(covered for face, covered in found.items() if face != first[1]["id"])
    session.set_settings(SOLID.model_copy(update={"threshold": 0.99}), [photo])
    assert not photo.reviewed, "its faces are others"
    while photo.look():
        pass
    left = photo.faces()["faces"]
    assert [face["id"] for face in left if not face["covered"]] == [first[1]["id"]], "a choice stays"


def test_face_of_another_search_stays_only_while_a_choice_names_it(photo: Any, session: Any, look: Look) -> None:
    first, *_ = ids(photo)
    photo.edit({"op": "uncover", "faces": [first]})
    session.set_settings(SOLID.model_copy(update={"threshold": 1.0}), [photo])
    assert ids(look(photo)) == [first]
    assert photo.edit({"op": "undo"})["faces"] == []


def test_moved_face_does_not_come_back_in_its_first_place(photo: Any, session: Any, look: Look) -> None:
    first, *_ = ids(photo)
    photo.edit({"op": "move", "face": first, "box": [10, 10, 50, 60]})
    for threshold in (1.0, 0.3):
        session.set_settings(SOLID.model_copy(update={"threshold": threshold}), [photo])
        look(photo)
    assert first not in ids(photo)
    assert len(ids(photo)) == 3


def test_edits_undo_redo_and_reset(photo: Any) -> None:
    before = covered(photo).copy()
    one, *_ = ids(photo)
    answer = photo.edit({"op": "add", "box": [600, 10, 700, 60]})
    (drawn,) = [face for face in answer["faces"] if face["origin"] == "drawn"]
    assert drawn["box"] == [600, 10, 640, 60], "cut at the border"
    assert (drawn["score"], drawn["covered"]) == (None, True)
    assert covered(photo)[35, 620].tolist() == [0x30, 0x20, 0x10]
    photo.edit({"op": "move", "face": drawn["id"], "box": [300, 10, 340, 60]})
    moved = photo.edit({"op": "move", "face": one, "box": [10, 10, 50, 60]})
    assert one not in [face["id"] for face in moved["faces"]]
    assert sum(face["origin"] == "drawn" for face in moved["faces"]) == 2
    for name in ("undo", "undo", "undo"):
        answer = photo.edit({"op": name})
    assert not answer["can_undo"]
    assert answer["can_redo"]
    assert (covered(photo) == before).all()
    photo.edit({"op": "redo"})
    answer = photo.edit({"op": "reset"})
    assert len(answer["faces"]) == 3
    assert answer["can_undo"]
    photo.edit({"op": "undo"})
    answer = photo.edit({"op": "remove", "face": drawn["id"]})
    assert (covered(photo) == before).all()


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ({}, "op"),
        ({"op": "dance"}, "no edit 'dance'"),
        ({"op": ["x"]}, "op: must be text"),
        ({"op": "undo"}, "nothing to undo"),
        ({"op": "cover"}, "no such face"),
        ({"op": "cover", "faces": [99]}, "no such face"),
        ({"op": "cover", "faces": [[]]}, "faces.0"),
        ({"op": "remove", "face": 1}, "only a drawn face"),
        ({"op": "move", "face": 99, "box": [1, 2, 30, 40]}, "no such face"),
        ({"op": "add", "box": [1, 2, 3]}, "box.3"),
        ({"op": "add", "box": [1, 2, float("nan"), 4]}, "box.2"),
        ({"op": "add", "box": [1, 2, 10**400, 4]}, "box.2"),
        ({"op": "add", "box": [900, 2, 990, 40]}, "too small"),
    ],
)
def test_impossible_edits_change_nothing(photo: Any, operation: dict[str, Any], reason: str) -> None:
    before = photo.info()
    with pytest.raises(OptionError, match=reason):
        photo.edit(operation)
    assert photo.info() == before


def test_patches_are_the_parts_that_changed(photo: Any) -> None:
    first = covered(photo).copy()
    answer = photo.edit({"op": "uncover", "faces": [ids(photo)[1]]})
    (patch,) = answer["patches"]
    x1, y1, x2, y2 = patch["box"]
    data = pixels(base64.b64decode(patch["image"].partition(",")[2]))
    assert data.shape == (y2 - y1, x2 - x1, 3)
    kept = covered(photo).copy()
    photo._invalidate()
    anew = covered(photo)
    assert (kept == anew).all(), "as drawn anew"
    outside = np.ones(first.shape[:2], bool)
    outside[y1:y2, x1:x2] = False
    assert (first[outside] == anew[outside]).all()
    assert (anew[y1:y2, x1:x2] == SCENE.image[y1:y2, x1:x2]).all()
    assert np.abs(data.astype(int) - anew[y1:y2, x1:x2]).mean() < 4, "as JPEG"


@pytest.mark.parametrize("name", ["blur", "emoji", "pixelate"])
def test_patches_of_neighbours_equal_a_new_drawing(session: Any, look: Look, name: str) -> None:
    session.settings = Settings(overlays=(Choice(name=name, options={}),))
    photo = look(session.add("three.png", png(SCENE.image)))
    x1, y1, x2, y2 = photo.faces()["faces"][1]["box"]
    covered(photo)
    photo.edit({"op": "add", "box": [x1 + (x2 - x1) / 2, y1, x2 + (x2 - x1) / 2, y2]})
    photo.edit({"op": "uncover", "faces": [ids(photo)[1]]})
    kept = covered(photo).copy()
    photo._invalidate()
    assert np.abs(kept.astype(int) - covered(photo)).max() <= 1


@pytest.mark.parametrize("name", ["spotlight", "crop"])
def test_overlays_that_need_the_whole_picture_are_drawn_again(session: Any, look: Look, name: str) -> None:
    session.settings = Settings(mode="fun", overlays=(Choice(name=name, options={}),))
    photo = look(session.add("three.png", png(SCENE.image)))
    before = covered(photo).copy()
    answer = photo.edit({"op": "uncover", "faces": [ids(photo)[1]]})
    assert (answer["redraw"], answer["patches"]) == (True, [])
    assert (covered(photo) != before).any()


def result(photo: Any, folder: Path) -> Path:
    (folder / "studio").mkdir(exist_ok=True)
    ((name, path),) = photo.write(folder / "studio", lambda *_: None, faces_file=False)
    return path.rename(path.with_name(name))


def command_line(words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.chdir(folder)
    args = [*words.replace("\\\n", "").split()[1:], "--quiet"]
    args += [] if "--model" in args or "--detections" in args else ["--model", str(model)]
    with pytest.raises(SystemExit) as ended:
        app(args, prog_name="scrfd-trt")
    assert not ended.value.code


FILES = ("picture.jpg", "picture.png", "alpha.png", "profile.webp")


def make_file(name: str) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(SCENE.image[..., ::-1])
    more: dict[str, Any] = {}
    if name == "alpha.png":
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 640).astype(np.uint8), (360, 1))))
    if name == "profile.webp":
        more = {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), "lossless": True}
    if name == "picture.jpg":
        more = {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}  # turned
    image.save(file, Path(name).suffix[1:].replace("jpg", "jpeg"), **more)
    return file.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_results_equal_those_of_the_command_line(
    session: Any, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network_500m: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(make_file(name))
    photo = look(session.add(name, make_file(name)))
    assert photo.info()["faces"] >= 1
    line, program = photo.code()
    assert line.split()[:3] == ["scrfd-trt", "anonymize", name]
    compile(program, "program", "exec")
    own = result(photo, tmp_path)
    assert own.name == f"{Path(name).stem}_anonymized{Path(name).suffix}"
    command_line(line, tmp_path, monkeypatch, network_500m)
    assert (tmp_path / own.name).read_bytes() == own.read_bytes()


@pytest.mark.parametrize("mode", ["hide", "fun"])
def test_results_of_edits_equal_those_of_their_faces_file(
    session: Any, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network_500m: Path, mode: str
) -> None:
    overlay = {"hide": "pixelate", "fun": "skull"}[mode]
    session.settings = Settings(mode=mode, overlays=(Choice(name=overlay, options={"scale": 1.25}),))
    (tmp_path / "picture.png").write_bytes(png(SCENE.image))
    photo = look(session.add("picture.png", png(SCENE.image)))
    first, second, *_ = ids(photo)
    photo.edit({"op": "uncover", "faces": [second]})
    photo.edit({"op": "move", "face": first, "box": [20.37, 30.5, 61.11, 83.3]})
    photo.edit({"op": "add", "box": [500, 40, 560, 110]})
    own = result(photo, tmp_path)
    photo.write_faces(tmp_path / photo.faces_name)
    line, program = photo.code()
    assert "--detections picture.faces.jsonl" in line
    assert f"--overlay {overlay}:scale=1.25" in line
    command_line(line, tmp_path, monkeypatch, network_500m)
    made = tmp_path / f"picture_{'anonymized' if mode == 'hide' else 'overlay'}.png"
    assert made.read_bytes() == own.read_bytes()
    made.unlink()
    exec(compile(program, "program", "exec"), {})
    assert (pixels(made.read_bytes()) == pixels(own.read_bytes())).all()


def test_second_look_leaves_doubtful_places_to_the_person(
    session: Any, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "find_dropped", lambda _, __, faces: np.arange(len(faces)) == 0)
    session.settings = SOLID
    photo = look(session.add("three.png", png(SCENE.image)))
    assert photo.info()["doubts"] == 1
    (face,) = [face for face in photo.faces()["faces"] if face["doubtful"]]
    assert not face["covered"]
    photo.edit({"op": "cover", "faces": [face["id"]]})
    assert photo.info()["doubts"] == 0
    assert all(face["covered"] for face in photo.faces()["faces"])


def test_photographs_in_memory_are_limited(session: Any, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = photos.DecodedPhotos(limit=SCENE.image.nbytes * 2 + 1)
    monkeypatch.setattr(photos, "decoded_photos", kept)
    session.settings = SOLID
    first, second = (look(session.add(f"{name}.png", png(SCENE.image))) for name in "ab")
    assert kept.peek(first) is None
    assert kept.peek(second) is not None
    answer = first.edit({"op": "uncover", "faces": [ids(first)[0]]})
    assert answer["patches"]
    session.remove(first.id)
    assert kept.peek(first) is None
    with pytest.raises(ClosedError):
        first.picture(covered=True, side=9)
    session.remove(second.id)
    with pytest.raises(ClosedError):
        kept.get(second, lambda: next(second._file.frames()))
    assert kept.peek(second) is None, "it was removed while it was decoded"


def test_files_of_several_pages_and_damaged_ones(session: Any, look: Look) -> None:
    file = io.BytesIO()
    pages = [Image.fromarray(SCENE.image[..., ::-1])] * 2
    pages[0].save(file, "tiff", save_all=True, append_images=pages[1:])
    photo = look(session.add("pages.tif", file.getvalue()))
    assert photo.info()["notes"] == ["The file has 2 pages. The studio shows and saves the first."]
    assert photo.output_name == "pages_anonymized.tif"
    with pytest.raises(ImageError, match=r"cut.jpg: the file is cut off"):
        session.add("cut.jpg", make_file("picture.jpg")[:9000])


def test_settings_of_files(session: Any, look: Look, tmp_path: Path) -> None:
    session.model = DEFAULT_MODEL
    photo = look(session.add("three.png", png(SCENE.image)))
    assert photo.code()[0] == "scrfd-trt anonymize three.png"
    for refused in (
        {"overlays": [{"name": "boxes"}]},
        {"overlays": []},
        {"overlays": [{"name": "x"}]},
        {"threshold": 2},
        {"mode": "fun", "overlays": [{"name": "blur", "options": {"opacity": 5}}]},
        {"mode": "fun", "overlays": [{"name": "image", "options": {"picture": "/etc/passwd"}}]},
    ):
        with pytest.raises(OptionError):
            session.set_settings(Settings.parse(refused), [photo])
    weak = Settings.parse({"overlays": [{"name": "blur", "options": {"opacity": 0.4}}]})
    session.set_settings(weak, [photo])
    assert photo.info()["notes"] == ["Opacity 0.4 leaves the face visible; use 1 to hide it."]
    key = session.store_sticker("../hat.png", png(np.full((8, 8, 4), 200, np.uint8)))
    fun = Settings.parse({"mode": "fun", "overlays": [{"name": "image", "options": {"picture": key}}]})
    session.set_settings(fun, [photo])
    assert look(photo).code()[0].replace("\\\n", "").split() == [
        *("scrfd-trt", "overlay", "three.png", "--overlay", "image:picture=hat.png"),
        *("--min-face", "16", "--rotations", "all"),
    ]
    assert session.sticker(key).exists()
    session.set_settings(SOLID, [photo])
    with pytest.raises(OptionError, match="not uploaded"):
        session.sticker(key)


def test_thumbnails(session: Any, look: Look) -> None:
    photo = session.add("empty.png", png(np.full((90, 120, 3), 120, np.uint8)))
    assert pixels(photo.thumbnail(None, 60)).shape == (45, 60, 3)
    look(photo)
    assert photo.info()["faces"] == 0
    assert pixels(photo.thumbnail("skull", 64)).shape == (64, 64, 3), "a drawn face"
    people = look(session.add("three.png", png(SCENE.image)))
    plain, blurred = (pixels(people.thumbnail(name, 64)) for name in ("image", "blur"))
    assert (plain != blurred).any()


def test_faces_file_says_how_the_faces_were_found(photo: Any, tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    photo.write_faces(path)
    entry = json.loads(path.read_text())
    assert {name: entry[name] for name in ("image", "threshold", "image_size")} == {
        "image": "three.png",
        "threshold": 0.3,
        "image_size": [640, 360],
    }
    assert "min_face" not in entry
    assert len(entry["faces"]) == 3
    shutil.rmtree(tmp_path)
