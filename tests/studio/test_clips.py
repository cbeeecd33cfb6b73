"""Clips of a page: the first pass, the timeline, edits, and results that equal those of the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drawing import clips as scenes
from scrfd_trt._tracking.faces import FrameFaces
from scrfd_trt.errors import ClosedError, ImageError, OptionError
from scrfd_trt.video import FacesReader, VideoReader

pytest.importorskip("starlette")
pytest.importorskip("av")

import av

from scrfd_trt._cli.application import app
from scrfd_trt._studio.clips import Faces
from scrfd_trt._studio.settings import Choice, Settings
from scrfd_trt.video._detections_file import Header
from scrfd_trt.video._two_pass import summarize

pytestmark = pytest.mark.slow

FRAMES, SIZE = 15, (480, 270)
SOLID = Settings(overlays=(Choice(name="solid", options={"fill": "#102030"}),), rotations=False)
Look = Callable[[Any], Any]
FAR = [{"t": 0.2, "box": [10, 10, 40, 50]}, {"t": 0.4, "box": [30, 10, 60, 50]}]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of several people, with a tone."""
    path, _ = scenes.make("static", tmp_path_factory.mktemp("clips"), seconds=FRAMES / 25, size=SIZE)
    return path


@pytest.fixture
def clip(session: Any, film: Path, look: Look) -> Any:
    session.settings = SOLID
    return look(session.add("street.mp4", film.read_bytes()))


def pictures(path: Path) -> list[Any]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def picture(content: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def command(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    assert ended.value.code == 0


def edit(clip: Any, op: str, **values: Any) -> dict[str, Any]:
    timeline: dict[str, Any] = clip.edit({"op": op, **values})["timeline"]
    return timeline


def test_first_pass_is_that_of_anonymize(clip: Any, film: Path, tmp_path: Path, network_500m: Path) -> None:
    state = clip.info()
    assert (state["state"], state["width"], state["height"], state["version"]) == ("ready", *SIZE, 1)
    clip.write_faces(tmp_path / "studio.faces.jsonl")
    found = tmp_path / "command.faces.jsonl"
    copy = tmp_path / "a.mp4"
    flags = ["--rotations", "none", "--model", network_500m, "--device", "cpu", "--quiet"]
    command("anonymize", film, "-o", copy, "--save-detections", found, *flags)
    lines = [path.read_text().splitlines()[1:] for path in (tmp_path / "studio.faces.jsonl", found)]
    assert lines[0] == lines[1]
    timeline = clip.timeline()
    assert len(timeline["times"]) == FRAMES
    assert len(timeline["tracks"]) == state["faces"] > 2
    summary = summarize(found)
    expected = {(one.start, one.end, one.doubt, one.track) for one in summary.moments_to_review(20)}
    assert {
        (m["t0"], m["t1"], m["kind"], m["track"]) for m in timeline["moments"] if m["kind"] != "dropped"
    } == expected


def test_command_line_draws_edited_faces_file_equally(clip: Any, film: Path, tmp_path: Path) -> None:
    timeline = clip.timeline()
    kept, split = [lane["id"] for lane in timeline["tracks"][:2]]
    edit(clip, "visible", tracks=[kept], visible=True)
    edit(clip, "split", track=split, t=0.2)
    edit(clip, "add", places=FAR)
    (tmp_path / "studio").mkdir()
    (_, own), (name, faces_file) = clip.write(tmp_path / "studio", lambda *_: None, faces_file=True)
    faces_file.rename(tmp_path / name)
    shutil.copy(film, tmp_path / "street.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        line, program = clip.code()
        command(*line.replace("\\\n", " ").replace("'", "").split()[1:], "--quiet")
        anonymized = pictures(tmp_path / "street_anonymized.mp4")
        (tmp_path / "street_anonymized.mp4").unlink()
        exec(compile(program, "program", "exec"), {})
    for other in (anonymized, pictures(tmp_path / "street_anonymized.mp4")):
        assert all((a == b).all() for a, b in zip(pictures(own), other, strict=True))
    with av.open(str(own)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
    with FacesReader(tmp_path / clip.faces_name) as file:
        assert (file.header.video, file.header.visible, len(file.header.covers)) == ("street.mp4", (kept,), 1)
    assert list((tmp_path / "studio").iterdir()) == [own]


def test_frames_are_covered_as_far_as_a_person_wants(clip: Any) -> None:
    lane = clip.timeline()["tracks"][0]
    seconds = lane["best"]["t"]
    x1, y1, x2, y2 = (round(side) for side in lane["best"]["box"])
    middle = np.s_[(y1 + y2) // 2, (x1 + x2) // 2]
    original, hidden = (picture(clip.frame(seconds, covered, 960)) for covered in (False, True))
    assert np.abs(hidden[middle].astype(int) - (0x30, 0x20, 0x10)).max() < 12
    edit(clip, "visible", tracks=[lane["id"]], visible=True)
    shown = picture(clip.frame(seconds, True, 960))
    assert np.abs(shown[middle].astype(int) - original[middle]).max() < 24
    assert picture(clip.frame(seconds, True, 96)).shape[1] == 96
    assert clip.frame(99.0, False, 960) == clip.frame(0.58, False, 960), "the last frame"
    faces = clip.frame_faces(seconds)
    assert [face["visible"] for face in faces if face["track"] == lane["id"]] == [True]
    assert picture(clip.track_face(lane["id"], 64)).shape == (64, 64, 3)
    assert picture(clip.thumbnail("skull", 80)).shape[:2] == (80, 80)
    assert max(picture(clip.thumbnail(None, 80)).shape) == 80


def test_edits_can_be_undone(clip: Any) -> None:
    before = clip.timeline()
    track = before["tracks"][0]["id"]
    edit(clip, "visible", tracks=[track], visible=True)
    drawn = edit(clip, "add", places=FAR)["covers"]
    assert drawn == [{"id": 1, "places": [{"t": p["t"], "box": tuple(p["box"])} for p in FAR]}]
    assert [face["box"] for face in clip.frame_faces(0.28) if face["cover"] == 1] == [[18, 10, 48, 50]]
    moved = edit(clip, "move", cover=1, places=[*FAR, {"t": 0.5, "box": [50, 10, 80, 50]}])["covers"]
    assert len(moved[0]["places"]) == 3
    assert (clip.info()["can_undo"], clip.info()["can_redo"]) == (True, False)
    edit(clip, "remove", cover=1)
    for _ in range(4):
        edit(clip, "undo")
    strip = {"tracks", "moments", "covers"}
    assert {key: clip.timeline()[key] for key in strip} == {key: before[key] for key in strip}
    assert edit(clip, "redo")["tracks"][0]["visible"]
    edit(clip, "reset")
    assert not edit(clip, "undo")["tracks"][1]["visible"]
    with pytest.raises(OptionError, match=r"^draw the face at"):
        edit(clip, "add", places=[])
    with pytest.raises(OptionError, match=r"^this drawn face is gone"):
        edit(clip, "remove", cover=7)
    with pytest.raises(OptionError, match=r"^there is no track 99"):
        edit(clip, "visible", tracks=[99], visible=True)
    with pytest.raises(OptionError, match="outside of the picture"):
        edit(clip, "add", places=[{"t": 0, "box": [900, 900, 950, 950]}])
    for wrong in (
        {"op": "dance"},
        {"op": "add", "places": [{"t": "x", "box": [1]}]},
        {},
        {"op": "split", "track": "a"},
    ):
        with pytest.raises(OptionError):
            clip.edit(wrong)


def test_face_that_is_drawn_once_is_covered_in_one_frame(clip: Any) -> None:
    edit(clip, "add", places=FAR[:1])
    found = [[face["cover"] for face in clip.frame_faces(t) if face["cover"]] for t in (0.16, 0.2, 0.24)]
    assert found == [[], [1], []]


def faces_of(*frames: dict[int, tuple[float, str]], dropped: tuple[int, ...] = ()) -> Faces:
    """Return the faces of frames at 10 per second: by track the left side of a box, and its origin."""
    made = []
    for number, frame in enumerate(frames):
        boxes = np.array([[left, 10.0, left + 20.0, 30.0] for left, _ in frame.values()]).reshape(-1, 4)
        origins = np.array([origin for _, origin in frame.values()], "U12")
        columns = np.array([*frame], np.int64), boxes, np.full(len(frame), 0.9), None, origins
        made.append(FrameFaces(number, number / 10, False, *columns))
    return Faces(Header(video="a.mp4", size=(200, 100), rate=10.0, dropped=dropped), made)


def apply(faces: Faces, **operation: Any) -> None:
    from scrfd_trt._studio.items import Operation

    faces.edit(Operation(**operation))


def lanes(faces: Faces) -> dict[int, Any]:
    return {lane["id"]: lane for lane in faces.timeline()["tracks"]}


def test_tracks_are_merged_and_split() -> None:
    found = "detected"
    faces = faces_of(
        {1: (0, found)}, {1: (2, found), 2: (90, found)}, {2: (90, found)}, {3: (6, found)}, {3: (8, found)}
    )
    with pytest.raises(OptionError, match=r"^tracks 1 and 2 are two people: both are in the picture at 0:00.10"):
        apply(faces, op="merge", tracks=[1, 2])
    apply(faces, op="merge", tracks=[3, 1])
    assert [*lanes(faces)] == [1, 2]
    assert lanes(faces)[1]["spans"] == [[0.0, 0.1], [0.3, 0.4]]
    assert lanes(faces)[1]["gaps"] == [[0.1, 0.3]]
    apply(faces, op="visible", tracks=[1], visible=True)
    apply(faces, op="split", track=1, t=0.3)
    assert {key: (lane["spans"], lane["visible"]) for key, lane in lanes(faces).items() if key != 2} == {
        1: ([[0.0, 0.1]], True),
        3: ([[0.3, 0.4]], True),
    }
    with pytest.raises(OptionError, match="no faces on both sides"):
        apply(faces, op="split", track=3, t=0.3)
    with pytest.raises(OptionError, match="two or more"):
        apply(faces, op="merge", tracks=[3, 3])
    with pytest.raises(OptionError, match="nothing to redo"):
        apply(faces, op="redo")


def test_merged_people_are_covered_unless_all_stay_visible() -> None:
    frames = [{1: (0.0, "detected")}, {1: (0.0, "extended"), 2: (1.0, "detected")}, {2: (2.0, "detected")}]
    faces = faces_of(*frames, dropped=(2,))
    assert (lanes(faces)[2]["dropped"], lanes(faces)[2]["doubtful"]) == (True, True)
    apply(faces, op="visible", tracks=[1], visible=True)
    apply(faces, op="merge", tracks=[1, 2])
    assert (lanes(faces)[1]["visible"], lanes(faces)[1]["dropped"]) == (True, False)
    apply(faces, op="undo")
    apply(faces, op="visible", tracks=[2], visible=False)
    assert not lanes(faces)[2]["dropped"], "a person covers what a second look dropped"
    apply(faces, op="merge", tracks=[1, 2])
    assert not lanes(faces)[1]["visible"]
    header = faces.header_of(faces.edits)
    assert header.visible == header.dropped == ()


def test_other_search_keeps_drawn_faces_and_visible_people(clip: Any, look: Look) -> None:
    best = clip.timeline()["tracks"][0]
    edit(clip, "visible", tracks=[best["id"]], visible=True)
    edit(clip, "add", places=FAR)
    clip.reviewed = True
    assert not clip.set_settings(Settings(rotations=False)), "overlays alone"
    assert clip.reviewed
    assert clip.set_settings(Settings(rotations=False, threshold=0.6))
    assert not clip.reviewed
    assert clip.info()["state"] == "looking"
    with pytest.raises(ImageError, match="not known yet"):
        clip.frame(0.0, True)
    look(clip)
    timeline = clip.timeline()
    assert len(timeline["covers"]) == 1
    shown = [lane["best"]["box"] for lane in timeline["tracks"] if lane["visible"] and not lane["dropped"]]
    assert np.abs(np.array(shown) - best["best"]["box"]).max() < 20
    assert not clip.info()["can_undo"]


def test_close_stops_search_and_writing_and_deletes_files(session: Any, film: Path, tmp_path: Path) -> None:
    session.settings = SOLID
    clip = session.add("street.mp4", film.read_bytes())
    session.changed = lambda item: item._progress and item.close()
    with pytest.raises(ClosedError):
        clip.look()
    assert not clip.path.parent.exists()
    with pytest.raises(ClosedError):
        clip.wait(lambda: False)


def test_cancelled_result_is_not_left(clip: Any, tmp_path: Path) -> None:
    def progress(done: float, *_: Any) -> None:
        if done > 3:
            raise ClosedError("cancelled")

    with pytest.raises(ClosedError):
        clip.write(tmp_path, progress, faces_file=False)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".jsonl"]


def test_result_and_faces_file_are_those_of_one_moment(clip: Any, tmp_path: Path) -> None:
    track = clip.timeline()["tracks"][0]["id"]

    def progress(done: float, *_: Any) -> None:
        if done == 3:
            edit(clip, "visible", tracks=[track], visible=True)

    _, (_, path) = clip.write(tmp_path, progress, faces_file=True)
    with FacesReader(path) as file:
        assert file.header.visible == ()
    assert clip.timeline()["tracks"][0]["visible"]


def test_page_without_room_stores_fewer_pictures(session: Any, film: Path, look: Look) -> None:
    session.settings = SOLID
    clip = session.add("street.mp4", film.read_bytes())
    session._budget.per_page = 10
    assert look(clip).info()["state"] == "ready"
    assert clip._proxies.is_full
    assert clip.frame(0.5, True)


def test_files_that_are_no_clips_are_refused(
    session: Any, film: Path, tmp_path: Path, look: Callable[[Any], Any]
) -> None:
    script = f"ffconcat version 1.0\nfile {film}\n".encode()
    for content in (script, b"no clip at all", film.read_bytes()[:500]):
        with pytest.raises(ImageError, match=r"^upload.mp4 cannot be opened as a clip: (?!.*tmp)"):
            session.add("upload.mp4", content)
    assert not session.items


def test_damaged_clip_is_shown_with_a_note(
    session: Any, film: Path, look: Callable[[Any], Any], tmp_path: Path
) -> None:
    session.settings = SOLID
    raw = tmp_path / "a.mkv"
    with av.open(str(film)) as source, av.open(str(raw), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    content = bytearray(raw.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    clip = look(session.add("torn.mkv", bytes(content)))
    assert clip.info()["state"] == "ready", clip.info()["error"]
    assert "damaged or missing" in clip.info()["notes"][0]
    assert "--damaged keep" in clip.code()[0]


def test_camera_answers_frames_and_refuses_others(session: Any) -> None:
    import drawing
    from scrfd_trt._studio.live import MAX_SIDE, Camera
    from scrfd_trt._studio.uploads import jpeg

    scene = drawing.scene((640, 360), 3, seed=2)
    camera = Camera(session)
    camera.set(SOLID)
    (x1, y1, x2, y2), *_ = scene.faces.boxes.astype(int).tolist()
    middle = np.s_[(y1 + y2) // 2, (x1 + x2) // 2]
    answers = [picture(camera.draw(jpeg(image))) for image in (scene.image, np.zeros_like(scene.image))]
    assert np.abs(answers[0][middle].astype(int) - (0x30, 0x20, 0x10)).max() < 12
    assert np.abs(answers[1][middle].astype(int) - (0x30, 0x20, 0x10)).max() < 12, "missed for a moment only"
    png = cv2.imencode(".png", scene.image)[1].tobytes()
    wide = jpeg(np.zeros((8, MAX_SIDE + 8, 3), np.uint8))
    for content in (b"", b"nothing", png, wide, jpeg(scene.image)[:300]):
        with pytest.raises(ImageError):
            camera.draw(content)
