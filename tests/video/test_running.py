"""Both passes over many kinds of clips, with a fake detector."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scrfd_trt import Detections, DetectorOptions
from scrfd_trt.errors import DetectionsError, OptionError, OutputError, VideoError
from scrfd_trt.video import (
    EncodeOptions,
    FacesReader,
    TrackingOptions,
    TrackSelection,
    VideoWriter,
    _colors,
    _two_pass,
    detect_video,
    overlay_video,
    render_video,
)

pytestmark = pytest.mark.slow

pytest.importorskip("av")
Make = Callable[..., Path]


class Middle:
    """A detector that finds a face in the centre of each image, except every fifth."""

    def stream(self, images: Iterable[Any], **_: Any) -> Iterator[Detections]:
        for number, image in enumerate(images):
            height, width = image.shape[:2]
            box = (width * 0.3, height * 0.3, width * 0.7, height * 0.7)
            faces = [] if number % 5 == 4 else [box]
            size = (width, height)
            yield Detections(np.array(faces).reshape(-1, 4), [0.9] * len(faces), None, image_size=size)


def black(image: NDArray[np.uint8], faces: Detections) -> NDArray[np.uint8]:
    drawn = image.copy()
    for x1, y1, x2, y2 in faces.boxes.astype(int):
        drawn[y1:y2, x1:x2] = 0
    return drawn


KINDS: dict[str, dict[str, Any]] = {
    "constant 29.97": {"rate": Fraction(30000, 1001)},
    "variable": {"times": [0, 1, 2, 5, 6, 10, 11, 12, 20, 21], "time_base": Fraction(1, 30)},
    "rotated": {"rotation": 90, "size": (64, 48)},
    "b-frames": {"options": {"bf": "3", "g": "30"}},
    "audio longer": {"audio": 2.0, "frames": 20},
    "no audio": {"audio": 0.0},
    "odd": {"size": (65, 47), "pixel_format": "yuv444p"},
    "10 bit": {"pixel_format": "yuv420p10le"},
    "bt.601 full": {"colours": (5, 2, 6, 5), "pixel_format": "yuvj420p"},
}
ONLY_MP4 = {("rotated", "mkv"), ("rotated", "ts")}
"""The only container in which the tests can write a display matrix."""


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        pytest.param(kind, suffix, marks=() if suffix == ".mp4" else pytest.mark.slow)
        for kind in KINDS
        for suffix in (".mp4", ".mkv", ".ts")
        if (kind, suffix[1:]) not in ONLY_MP4
    ],
)
def test_everything_but_faces_is_preserved(clip: Make, probed: Callable[[Path], Any], kind: str, suffix: str) -> None:
    how = {"audio": 1.0} | KINDS[kind]
    source = clip(f"clip{suffix}", **how)
    target = source.with_name(f"out{suffix}")
    summary = overlay_video(source, target, Middle(), black)
    before, after = probed(source), probed(target)
    assert summary.frames == len(before.frames) == len(after.frames)
    assert summary.bridged >= 1
    np.testing.assert_allclose(after.times, before.times, atol=1e-3)
    # Matroska stores no duration for the first packets if others come before them.
    packets = [[[(at, data) for at, _, data in one.packets] for one in file.of("audio")] for file in (after, before)]
    assert packets[0] == packets[1]
    assert after.duration == pytest.approx(before.duration, abs=0.001)
    one, other = after.frames[0], before.frames[0]
    turned = kind == "rotated"
    assert (one.width, one.height) == ((other.height, other.width) if turned else (other.width, other.height))
    assert (one.colorspace, one.color_range, one.color_trc, one.color_primaries) == (
        other.colorspace,
        other.color_range,
        other.color_trc,
        other.color_primaries,
    )
    assert one.format.components[0].bits == other.format.components[0].bits
    for frame in after.frames:
        image = frame.to_ndarray(format="bgr24")
        height, width = image.shape[:2]
        assert image[height // 2 - 5 : height // 2 + 5, width // 2 - 5 : width // 2 + 5].max() < 40, frame.time
    assert sorted(path.name for path in source.parent.iterdir()) == [f"clip{suffix}", f"out{suffix}"]


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_concatenated_transport_streams(clip: Make, probed: Callable[[Path], Any], suffix: str) -> None:
    piece = clip("piece.ts", audio=1.0)
    both = piece.with_name("both.ts")
    both.write_bytes(piece.read_bytes() * 2)
    target = both.with_name(f"out{suffix}")
    assert overlay_video(both, target, Middle(), black).frames == 60
    after = probed(target)
    assert len(after.of("audio")[0].packets) == 2 * len(probed(piece).of("audio")[0].packets)
    np.testing.assert_allclose(np.diff(after.times)[:29], 1001 / 30000, atol=0.0011)
    np.testing.assert_allclose(np.diff(after.times)[30:], 1001 / 30000, atol=0.0011)


def test_detect_once_and_render_twice(clip: Make, tmp_path: Path) -> None:
    source, faces = clip(), tmp_path / "clip.faces.jsonl"
    calls: list[tuple[str, int, int | None]] = []
    summary = detect_video(source, faces, Middle(), progress=lambda *now: calls.append(now))
    assert (summary.frames, len(summary.tracks)) == (30, 1)
    assert calls[-1] == ("finding", 30, 30)
    for name in ("a.mp4", "b.mkv"):
        render_video(source, tmp_path / name, faces, black, progress=lambda *now: calls.append(now))
        assert calls[-1] == ("drawing", 30, 30)
    left = render_video(
        source, tmp_path / "c.mp4", faces, black, selection=TrackSelection(except_tracks=frozenset({1}))
    )
    assert (left.left_out, len(left.tracks)) == ({1}, 0)
    with FacesReader(faces) as file:
        assert {face.origin for frame in file for face in frame} == {"detected", "interpolated", "extended"} - (
            {"extended"} if 29 % 5 != 4 else set()
        )


@pytest.mark.parametrize(
    ("given", "tracking", "thresholds"),
    [
        ({}, None, (0.3, 0.15)),
        ({"threshold": 0.95}, None, (0.95, 0.15)),
        ({"threshold": 0.1}, TrackingOptions(every=2), (0.1, 0.1)),
        ({"threshold": 0.95}, TrackingOptions(threshold=0.3), (0.3, 0.15)),
    ],
)
def test_threshold_of_the_detector(clip: Make, tmp_path: Path, given: Any, tracking: Any, thresholds: Any) -> None:
    detector, faces = Middle(), tmp_path / "a.faces.jsonl"
    detector.options = DetectorOptions(**given)  # type: ignore[attr-defined]
    summary = detect_video(clip("a.mp4"), faces, detector, tracking=tracking)
    assert bool(summary.tracks) == (thresholds[0] < 0.9)  # the score of the faces
    with FacesReader(faces) as file:
        assert tuple(file.header.tracking[name] for name in ("threshold", "low")) == thresholds


def test_faces_of_another_video_are_rejected(clip: Make, tmp_path: Path) -> None:
    faces = tmp_path / "faces.jsonl"
    detect_video(clip("a.mp4"), faces, Middle())
    without_fingerprint(faces)
    for how, message in (
        ({"frames": 31}, "the detections file has 30 frames, and the video has more"),
        ({"frames": 29}, "the detections file has more frames than the video"),
        ({"rate": Fraction(25)}, "in the detections file, which belongs to another video"),
    ):
        other = clip(f"{len(message)}.mp4", **how)
        with pytest.raises(DetectionsError, match=message):
            render_video(other, tmp_path / "out.mp4", faces, black)
    assert not (tmp_path / "out.mp4").exists()


def without_fingerprint(faces: Path) -> None:
    """Remove the fingerprint, which is optional."""
    head, *lines = faces.read_text().splitlines(keepends=True)
    about = json.loads(head)
    assert re.fullmatch(r"\d+-[0-9a-f]{16}", about.pop("fingerprint"))
    faces.write_text("".join([json.dumps(about) + "\n", *lines]))


def test_video_with_same_times_differs_by_size_and_fingerprint(clip: Make, tmp_path: Path) -> None:
    faces, out = tmp_path / "faces.jsonl", tmp_path / "out.mp4"
    source = clip("a.mp4")
    detect_video(source, faces, Middle())
    with pytest.raises(DetectionsError, match=r"belong to another video, of 64×48; .*b\.mp4 has 80×48: name the video"):
        render_video(clip("b.mp4", size=(80, 48)), out, faces, black)
    other = clip("c.mp4", draw=lambda number, size: np.full((*size[::-1], 3), 90, np.uint8))
    with pytest.raises(DetectionsError, match=r"another video, a\.mp4 as it was; .*c\.mp4 is another file: name"):
        render_video(other, out, faces, black)
    assert not out.exists()
    source.rename(tmp_path / "renamed.mp4")
    assert render_video(tmp_path / "renamed.mp4", out, faces, black).frames == 30
    without_fingerprint(faces)
    with pytest.raises(DetectionsError, match="80×48"):
        render_video(tmp_path / "b.mp4", tmp_path / "d.mp4", faces, black)
    assert render_video(tmp_path / "renamed.mp4", tmp_path / "d.mp4", faces, black).frames == 30


def test_folders_of_images_have_no_fingerprint(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), np.full((48, 64, 3), 200, np.uint8))
    faces = tmp_path / "faces.jsonl"
    for name in (tmp_path, tmp_path / "%02d.png"):
        detect_video(name, faces, Middle(), overwrite=True)
        assert json.loads(faces.read_text().splitlines()[0])["fingerprint"] is None
        assert render_video(name, tmp_path / "out.mp4", faces, black, overwrite=True).frames == 4


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_unsupported_color_matrix_is_approximated_with_one_warning(
    clip: Make, probed: Callable[[Path], Any], matrix: int, caplog: pytest.LogCaptureFixture
) -> None:
    _colors.nearest_matrix.cache_clear()
    source = clip(colours=(matrix, 1, 14, 9), pixel_format="yuv420p10le", draw=grey)
    target = source.with_name("out.mp4")
    with caplog.at_level("WARNING", "scrfd_trt"):
        assert overlay_video(source, target, Middle(), black).frames == 30
    assert [record.message[:50] for record in caplog.records] == [
        f"FFmpeg does not convert colours of matrix {matrix} (ITU-T"[:50]
    ]
    frame = probed(target).frames[7]
    assert frame.colorspace == matrix
    luma = _colors.planes(frame)[0]
    assert luma[20:28, 26:38].max() < 40 * 4
    assert luma[:12].min() > 150 * 4


def test_trial_of_the_output_is_freed_before_the_first_pass(
    clip: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[weakref.ref[VideoWriter]] = []

    def opened(*args: Any, **options: Any) -> VideoWriter:
        writer = VideoWriter(*args, **options)
        writers.append(weakref.ref(writer))
        return writer

    monkeypatch.setattr(_two_pass, "open_writer", opened)
    freed: list[bool] = []
    overlay_video(
        clip(frames=5),
        tmp_path / "out.mp4",
        Middle(),
        black,
        progress=lambda *_: freed.append(writers[0]() is None),
    )
    assert len(writers) == 2
    assert all(freed)


def grey(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.full((*size[::-1], 3), 200, np.uint8)


def test_conversion_error_is_not_reported_as_faces_file_error(
    clip: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg's errors are OSErrors, too."""
    monkeypatch.setattr(_colors, "MATRICES", range(256))
    source = clip(colours=(8, 1, 1, 1))
    _colors.nearest_matrix.cache_clear()
    with pytest.raises(VideoError, match="a picture in yuv420p cannot be converted to bgr24: Operation not supported"):
        detect_video(source, tmp_path / "faces.jsonl", Middle())
    _colors.nearest_matrix.cache_clear()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


SRT = "1\n00:00:00,100 --> 00:00:00,500\none\n"


@pytest.mark.parametrize(
    ("name", "how", "error", "message"),
    [
        (
            "out.webm",
            {"encode": EncodeOptions(audio="copy")},
            OptionError,
            r"do not play aac audio in \.webm files, .* use audio='auto', .* or name a \.mkv file",
        ),
        ("out.webm", {"encode": EncodeOptions(codec="h264")}, OutputError, r"cannot write .*out\.webm with libx264"),
        (
            "out.mp4",
            {"encode": EncodeOptions(preset="silly")},
            OptionError,
            "libx264 has no preset 'silly'; the choices are: ultrafast",
        ),
        (
            "out.mp4",
            {"encode": EncodeOptions(codec="h264_nvenc")},
            OutputError,
            r"with h264_nvenc \(requires an NVIDIA GPU",
        ),
        ("no/out.mp4", {}, OptionError, r"cannot write .*no/out\.mp4: there is no folder .*/no; create it first$"),
    ],
)
def test_output_errors_precede_detection(
    name: str,
    how: dict[str, Any],
    error: type[Exception],
    message: str,
    clip: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    source, done = clip("clip.mkv", audio=1.0, subtitles=SRT), []
    with pytest.raises(error, match=message) as caught:
        overlay_video(source, tmp_path / name, Middle(), black, **how, progress=lambda *now: done.append(now))
    assert "\n" not in str(caught.value)
    assert done == []
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_overlay_that_is_not_callable_precedes_detection(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"overlay must be an overlay, .*; write overlays.create\('blur'\)"):
        overlay_video("none.mp4", tmp_path / "out.mp4", Middle(), "blur")  # type: ignore[arg-type]


def test_variable_rate_for_avi_fails_in_first_pass(clip: Make, tmp_path: Path) -> None:
    times = [0, 40, 73, 74, 200, 233, 500, 540]
    stages = set()
    with pytest.raises(OutputError, match=r"out\.avi: AVI stores no timestamps"):
        overlay_video(
            clip(times=times, time_base=Fraction(1, 1000)),
            tmp_path / "out.avi",
            Middle(),
            black,
            progress=lambda stage, *_: stages.add(stage),
        )
    assert stages <= {"finding"}


def test_second_video_stream_is_warned_about_once(clip: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    av = pytest.importorskip("av")
    both = tmp_path / "both.mkv"
    with av.open(str(clip())) as front, av.open(str(tmp_path / "clip.mp4")) as rear, av.open(str(both), "w") as out:
        sources = [(source, out.add_stream_from_template(source.streams.video[0])) for source in (front, rear)]
        for source, stream in sources:
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    with caplog.at_level("WARNING", "scrfd_trt"):
        summary = overlay_video(both, tmp_path / "out.mkv", Middle(), black, faces_file=tmp_path / "f.jsonl")
        render_video(both, tmp_path / "again.mkv", tmp_path / "f.jsonl", black)
    assert summary.omitted[0] == "further video stream"
    assert [record.message for record in caplog.records] == 2 * [
        (
            f"{both}: the file has 2 video streams; only the first is read and written; extract others first, "
            "for example with ffmpeg -map 0:v:1 -c copy"
        )
    ]


def test_missing_and_damaged_frames_are_counted(clip: Make, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    noise = np.random.default_rng(0).integers(0, 255, (200, 260, 3)).astype(np.uint8)
    draw = lambda number, size: noise[number : number + size[1], number : number + size[0]]  # noqa: E731
    source = clip(frames=60, options={"g": "10", "bf": "0"}, size=(128, 96), draw=draw)
    gone = tmp_path / "gone.mkv"
    with av.open(str(source)) as old, av.open(str(gone), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and not 36 <= number < 40:
                packet.stream = stream
                new.mux(packet)
    summary = overlay_video(gone, tmp_path / "gone_out.mkv", Middle(), black, damaged="keep")
    assert [(round(start, 2), round(end, 2)) for start, end in summary.gaps()] == [(1.17, 1.33)]
    assert overlay_video(source, tmp_path / "whole.mp4", Middle(), black).gaps() == []
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 6000] = bytes(6000)
    (tmp_path / "damaged.mp4").write_bytes(bytes(data))
    found = overlay_video(tmp_path / "damaged.mp4", tmp_path / "damaged_out.mp4", Middle(), black, damaged="keep")
    assert found.lost > 0
    assert summary.lost == 0


def test_error_leaves_no_files(clip: Make, tmp_path: Path) -> None:
    def fails(image: NDArray[np.uint8], faces: Detections) -> NDArray[np.uint8]:
        raise DetectionsError("too bad")

    source = clip()
    with pytest.raises(DetectionsError, match="too bad"):
        overlay_video(source, tmp_path / "out.mp4", Middle(), fails)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(source.read_bytes()[:-300])
    with pytest.raises(VideoError):
        overlay_video(broken, tmp_path / "out.mp4", Middle(), black, faces_file=tmp_path / "f.jsonl")
    (tmp_path / "taken.mp4").write_bytes(b"mine")
    with pytest.raises(OptionError, match="already exists"):
        overlay_video(source, tmp_path / "taken.mp4", Middle(), black)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "clip.mp4", "taken.mp4"]


PROGRAM = """
import sys, time
sys.path[:0] = {paths!r}
from test_running import Middle, black
from scrfd_trt.video import overlay_video

def slowly(image, faces):
    time.sleep(0.02)
    print(end=".", flush=True)
    return black(image, faces)

overlay_video("clip.mp4", "out.mp4", Middle(), slowly, faces_file="clip.faces.jsonl")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a process that can be killed")
@pytest.mark.parametrize("dots", [0, 1, 12, 29])
def test_killed_process_leaves_no_partial_file(clip: Make, tmp_path: Path, dots: int) -> None:
    clip()
    program = textwrap.dedent(PROGRAM).format(paths=[str(Path(__file__).parent), *sys.path])
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        if dots:
            assert len(running.stdout.read(dots)) == dots
        else:
            time.sleep(0.3)
        running.kill()
    named = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".scrfd-trt-")}
    assert named <= {"clip.mp4", "clip.faces.jsonl"}
    if (tmp_path / "clip.faces.jsonl").exists():
        with FacesReader(tmp_path / "clip.faces.jsonl") as file:
            assert len(list(file)) == 30
    assert running.returncode == -signal.SIGKILL


STAGES = """
import sys
sys.path[:0] = {paths!r}
from test_running import Middle, black
from scrfd_trt.video import EncodeOptions, overlay_video

def report(stage, done, total):
    print(stage, done, flush=True)

overlay_video("clip.mp4", "out.mp4", Middle(), black, encode=EncodeOptions(preset="slower"), progress=report)
print("whole", 0, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a process that can be killed")
@pytest.mark.parametrize(
    ("name", "moment"),
    [("SIGKILL", "drawing 1"), ("SIGKILL", "drawing 40"), ("SIGKILL", "drawing 79"), ("SIGINT", "drawing 40")],
)
def test_stop_in_second_pass_leaves_no_output(
    popen: Callable[..., subprocess.Popen[str]], clip: Make, tmp_path: Path, moment: str, name: str
) -> None:
    """An encoder looks ahead, so that much is written after the last frame."""
    clip(frames=80, size=(240, 180), options={"preset": "ultrafast"})
    program = STAGES.format(paths=[str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", program]
    with popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert any(line.strip() == moment for line in running.stdout)
        running.send_signal(getattr(signal, name))
        output = running.stdout.read()
    assert "whole" not in output
    assert running.returncode == -getattr(signal, name)
    found = [path.name for path in tmp_path.iterdir()]
    if name == "SIGKILL":
        found = [one for one in found if not (one.startswith(".scrfd-trt-") and one.endswith(".part"))]
    assert found == ["clip.mp4"]


MEMORY = """
import resource, sys
from itertools import islice
sys.path[:0] = {paths!r}
from test_running import Middle, black
from scrfd_trt.video import TrackingOptions, overlay_video

class Batched(Middle):
    def stream(self, images, **_):
        images = iter(images)
        while batch := list(islice(images, 8)):
            yield from super().stream(batch)

peaks = []
for name, every in (("short", 1), ("long", 1), ("long", 50)):
    tracking = TrackingOptions(every=every, smooth=False)
    overlay_video(name + ".mp4", "out.mp4", Batched(), black, tracking=tracking, overwrite=True)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
def test_memory_is_independent_of_length(clip: Make, tmp_path: Path) -> None:
    """A frame takes 0.26 MB and its image 0.52 MB: 400 more would take 300 MB. FFmpeg's memory counts, too.

    The last run skips most frames: frames that wait for a batch would take 100 MB.
    """
    still = np.full((360, 480, 3), 200, np.uint8)
    for name, frames in (("short", 100), ("long", 500)):
        clip(f"{name}.mp4", frames=frames, size=(480, 360), draw=lambda *_: still, options={"preset": "ultrafast"})
    program = MEMORY.format(paths=[str(Path(__file__).parent), *sys.path])
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    short, long, seldom = map(int, ran.stdout.split())
    assert long < short + 80_000
    assert seldom < long + 40_000
