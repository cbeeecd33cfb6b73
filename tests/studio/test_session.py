from __future__ import annotations

import ast
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import drawing
import overlays
from scrfd_trt import SCRFDDetector
from scrfd_trt._studio import media
from scrfd_trt._studio.code import as_command, as_python, in_lines, spec
from scrfd_trt._studio.controls import fields
from scrfd_trt._studio.media import LARGEST_STICKER, Media
from scrfd_trt._studio.session import Layer, Session
from scrfd_trt.errors import ImageError, OptionError

STICKER = cv2.imencode(".png", np.full((8, 8, 4), 200, np.uint8))[1].tobytes()


@pytest.fixture
def session(network_500m: Path) -> Iterator[Session]:
    with SCRFDDetector.from_onnx(network_500m, threshold=0.05) as detector:
        made = Session(detector)
        yield made
        made.close()


def test_it_begins_with_a_drawn_scene_under_a_skull(session: Session) -> None:
    image, count = session.draw()
    assert count == 6
    assert (image != session.media.frames[0]).any()


def test_layers_threshold_and_picture_can_be_changed(session: Session) -> None:
    scene = drawing.scene((640, 360), 3, seed=2)
    session.open("three.png", cv2.imencode(".png", scene.image)[1].tobytes())
    session.layers = [Layer("solid", {"fill": "#102030"}), Layer("boxes")]
    image, count = session.draw()
    assert count == 3
    x, y = ((scene.faces.boxes[0, :2] + scene.faces.boxes[0, 2:]) / 2).astype(int)
    assert image[y, x].tolist() == [0x30, 0x20, 0x10]
    session.threshold = 0.99
    assert session.draw()[1] == 0
    assert (session.draw()[0] == scene.image).all()


def test_a_wrong_file_leaves_the_picture_before(session: Session) -> None:
    before = session.media
    with pytest.raises(ImageError, match=r"notes.txt is no picture or clip"):
        session.open("notes.txt", b"words")
    assert session.media is before


def test_options_that_leave_a_face_readable_are_told(session: Session) -> None:
    session.layers = [Layer("blur", {"opacity": 0.4})]
    assert session.warnings() == ["with opacity 0.4 the face shines through; 1 hides it"]


def test_files_are_gone_when_it_is_closed(session: Session) -> None:
    kept = session.keep("../a.png", STICKER)
    assert kept.name == "a.png"
    assert kept.read_bytes() == STICKER
    session.close()
    session.close()
    assert not kept.parent.exists()


def test_stickers_are_limited_by_the_server(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    most = LARGEST_STICKER - len(STICKER)
    assert session.keep("a.png", STICKER + bytes(most)).stat().st_size == LARGEST_STICKER
    with pytest.raises(ImageError, match=r"^'a.png' has more than 16 MiB: take a smaller one$"):
        session.keep("a.png", STICKER + bytes(most + 1))
    with pytest.raises(ImageError, match="no picture"):
        session.keep("a.png", b"words")
    monkeypatch.setattr(media, "MOST_PIXELS", 63)
    with pytest.raises(ImageError, match=r"a.png. has more than"):
        session.keep("a.png", STICKER)


def test_the_words_make_what_is_shown(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("scene.png", session.media.frames[0])
    session.layers = [Layer("skull", {"opacity": 0.5}), Layer("solid", {"shape": "aligned", "margin": 0.3})]
    shown, _ = session.draw()
    exec(compile(session.python(), "python", "exec"), {})
    assert (cv2.imread("scene-overlay.png") == shown).all()
    name, content = session.download()
    assert name == "scene-overlay.png"
    assert isinstance(content, bytes)
    assert (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) == shown).all()


def test_the_command_is_what_a_shell_takes() -> None:
    media = Media("my photo's.png", (np.zeros((4, 4, 3), np.uint8),))
    layers = [
        ("solid", {"fill": "#102030", "feather": 0.25}),
        ("landmarks", {"box": False}),
        ("image", {"picture": Path("/x/a, b.png")}),
    ]
    words = shlex.split(as_command(media, 0.3, layers))
    assert words[:3] == ["scrfd-trt", "overlay", "my photo's.png"]
    told = ["solid:fill=#102030,feather=0.25", "landmarks:box=no", 'image:picture="a, b.png"']
    assert words[3:9] == [word for one in told for word in ("--overlay", one)]
    assert words[9:] == ["--threshold", "0.3", "-o", "my photo's-overlay.png"]
    assert overlays._registry.split_spec(spec(*layers[2])) == ("image", {"picture": "a, b.png"})
    ast.parse(as_python(media, 0.3, layers))


@pytest.mark.skipif(os.name == "nt", reason="PowerShell has another way to go on in the next line")
def test_commands_are_shown_in_lines_that_a_shell_takes() -> None:
    command = as_command(
        Media("a photo's.png", (np.zeros((4, 4, 3), np.uint8),)), 0.5, [("image", {"picture": Path("a b.png")})]
    )
    shown = in_lines(command)
    assert len(shown.splitlines()) == 4
    run = subprocess.run(["sh", "-c", f"printf '%s\\n' {shown}"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == shlex.split(command)


def test_without_overlays_there_is_no_command() -> None:
    media = Media("photo.png", (np.zeros((4, 4, 3), np.uint8),))
    assert as_command(media, 0.3, []) == ""
    assert "draw = overlays.Compose()\n" in as_python(media, 0.3, [])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("my clip.mp4", "my clip-overlay.mp4"),
        ("a.m4v", "a-overlay.mp4"),
        ("a.MOV", "a-overlay.mov"),
        ("a.webm", "a-overlay.mkv"),
        ("a.avi", "a-overlay.mkv"),
    ],
)
def test_clips_have_a_command_and_python(name: str, target: str) -> None:
    media = Media(name, (np.zeros((4, 6, 3), np.uint8),) * 3, Path("/somewhere/clip"))
    words = shlex.split(as_command(media, 0.3, [("emoji", {})]))
    assert words == ["scrfd-trt", "overlay", name, "--overlay", "emoji", "--threshold", "0.3", "-o", target]
    python = as_python(media, 0.3, [("emoji", {})])
    ast.parse(python)
    assert f"overlay_video({name!r}, {target!r}, detector, draw, tracking=tracking)" in python
    assert "TrackingOptions(threshold=0.3)" in python
    assert "TrackingOptions(threshold=0.1, low=0.1)" in as_python(media, 0.1, [])


def test_an_overlay_is_made_once_for_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    create = overlays.create
    monkeypatch.setattr(overlays, "create", lambda name, **options: made.append(options) or create(name, **options))
    layer = Layer("blur")
    first = layer.make()
    layer.take({"strength": 0.5})
    assert layer.make() is layer.make() is not first
    assert made == [{}, {"strength": 0.5}]


def test_options_that_are_refused_leave_those_before() -> None:
    layer = Layer("pixelate", {"block": 9})
    with pytest.raises(OptionError, match="block"):
        layer.take({"block": 1})
    assert layer.options == {"block": 9}
    assert layer.make() == overlays.Pixelate(block=9)


def test_options_are_kept_while_a_picture_is_still_needed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(STICKER)
    layer = Layer("image")
    layer.take({"opacity": 0.3})
    assert layer.options == {"opacity": 0.3}
    with pytest.raises(OptionError, match="opacity"):
        layer.take({"opacity": 3})
    with pytest.raises(OptionError, match="needs picture"):
        layer.make()
    layer.take({**layer.options, "picture": tmp_path / "a.png"})
    assert layer.make().opacity == 0.3


@pytest.mark.parametrize("name", overlays.names())
def test_every_option_has_a_control_that_begins_at_its_default(name: str) -> None:
    found = {field.name: field for field in fields(name)}
    assert set(found) == {option.name for option in overlays.describe(name)} - {"color"}
    for field in found.values():
        if field.kind == "slider":
            assert field.low <= field.default <= field.high
            for value in (field.low, field.high):
                if name != "image":
                    overlays.create(name, **{field.name: int(value) if field.step == 1 else value})
        if field.kind == "choice":
            assert field.default in field.choices


def test_kinds_of_controls() -> None:
    kinds = {field.name: field.kind for field in fields("pixelate")} | {f.name: f.kind for f in fields("landmarks")}
    assert kinds["opacity"] == "slider"
    assert kinds["shape"] == "choice"
    assert kinds["block"] == "number"
    assert kinds["box"] == "switch"
    assert kinds["box_color"] == "text"
    assert {field.name: field.kind for field in fields("image")}["picture"] == "file"


def test_wrong_options_are_refused_by_the_overlay(session: Session) -> None:
    session.layers = [Layer("skull", {"opacity": 3})]
    with pytest.raises(OptionError):
        session.draw()
