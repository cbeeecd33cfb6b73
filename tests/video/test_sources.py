"""Opening sources by their names: files, streams, images and cameras."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt._cli.inputs import is_video
from scrfd_trt._cli.live import is_address
from scrfd_trt.errors import MissingDependencyError, OptionError, VideoError, redact_password
from scrfd_trt.video import LiveReader, VideoReader, VideoWriter, _pyav, open_source
from scrfd_trt.video._animation_reader import is_animation
from scrfd_trt.video._sources import concat_script, find_camera

MakeClip = Callable[..., Path]
Serve = Callable[..., Any]


def image(path: Path, grey: int, size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size[::-1], 3), grey, np.uint8))


def greys(source: Path | str, **how: Any) -> list[int]:
    with open_source(source, **how) as reader:
        assert isinstance(reader, VideoReader)
        return [int(frame.image.mean().round()) for frame in reader]


@pytest.mark.parametrize(("release", "problem"), [("17.0.9", "too old"), ("19.0.2", "too new")])
def test_release_of_pyav_out_of_range(release: str, problem: str, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    limits = re.search(r'"(av>=.*?)"', (root / "pyproject.toml").read_text(encoding="utf-8"))
    monkeypatch.setattr("av.__version__", release)
    _pyav.load.cache_clear()
    with pytest.raises(MissingDependencyError) as caught:
        open_source("a.mp4")
    assert limits is not None
    assert str(caught.value) == f'PyAV {release} is {problem}: pip install "{limits[1]}"'


def test_file(clip: MakeClip) -> None:
    with open_source(clip(audio=0.5), extra_streams=("audio",)) as reader:
        assert isinstance(reader, VideoReader)
        assert [stream.type for stream in reader.extra_streams] == ["audio"]
        assert len(list(reader)) == 30


@pytest.mark.parametrize("scheme", ["tcp", "http", "HTTP"])
def test_stream(scheme: str, clip: MakeClip, serve: Serve, http_head: bytes) -> None:
    reply = {"data": clip("clip.ts").read_bytes(), "head": http_head if scheme != "tcp" else b""}
    server = serve(reply)
    with open_source(f"{scheme}://127.0.0.1:{server.port}/live.ts", reconnect=0, queue=99) as reader:
        assert isinstance(reader, LiveReader)
        assert len(list(reader)) == 30
    assert server.connections == 1


def serve_rtsp(server: socket.socket, data: bytes) -> None:
    """Answer one client, and send a transport stream in RTP packets over its connection (RFC 2326, RFC 3551)."""
    description = b"v=0\r\no=- 0 0 IN IP4 0\r\ns=a\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:a\r\n"
    replies = {
        b"DESCRIBE": b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(description), description),
        b"SETUP": b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
        b"PLAY": b"Session: 1\r\n\r\n",
    }
    connection, _ = server.accept()
    with server, connection, connection.makefile("rb") as requests:
        method = b""
        while method != b"PLAY":
            method, lines = requests.readline().split(b" ")[0], []
            while (line := requests.readline().strip()) and method:
                lines.append(line)
            number = next(line for line in lines if line.lower().startswith(b"cseq"))
            connection.sendall(b"RTSP/1.0 200 OK\r\n" + number + b"\r\n" + replies.get(method, b"\r\n"))
        for at in range(0, len(data), 1316):
            packet = struct.pack(">BBHII", 0x80, 33, at // 1316, at, 1) + data[at : at + 1316]
            connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)


def test_rtsp_stream(clip: MakeClip) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(60)
    data = clip("clip.ts", options={"tune": "zerolatency"}).read_bytes()
    thread = Thread(target=serve_rtsp, args=(server, data))
    thread.start()
    with open_source(f"rtsp://127.0.0.1:{server.getsockname()[1]}/a", reconnect=0, queue=99, timeout=60) as reader:
        assert isinstance(reader, LiveReader)
        assert len(list(reader)) >= 28  # the last one may lack its end
    thread.join(120)


def test_web_video(clip: MakeClip, serve: Serve) -> None:
    data = clip("clip.mkv").read_bytes()
    head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\nContent-Type: video/x-matroska\r\n\r\n" % len(data)
    server = serve(*[{"data": data, "head": head}] * 4)
    with open_source(f"http://127.0.0.1:{server.port}/clip.mkv") as reader:
        assert isinstance(reader, VideoReader)
        assert not reader.info.live
        assert len(list(reader)) == 30


def test_image_pattern(tmp_path: Path) -> None:
    for number in range(8, 12):
        image(tmp_path / f"{number:03}.png", number * 10)
    image(tmp_path / "7.png", 5)
    assert greys(tmp_path / "%03d.png") == [80, 90, 100, 110]
    with open_source(tmp_path / "%03d.png", rate=Fraction(30000, 1001)) as reader:
        assert reader.info.rate == Fraction(30000, 1001)
        assert [frame.pts_seconds for frame in reader] == pytest.approx([n * 1001 / 30000 for n in range(4)])


def test_missing_image_in_pattern(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        image(tmp_path / f"{number}.png", number)
    with pytest.raises(VideoError, match="image 2 is missing, but 3 exists"):
        open_source(tmp_path / "%d.png")
    with pytest.raises(VideoError, match="no image matches"):
        open_source(tmp_path / "nowhere" / "%d.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_folder_of_images(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's frames"
    for number, grey in ((10, 120), (2, 60), (1, 20)):
        image(folder / f"shot {number}{suffix}", grey)
    (folder / "notes.txt").write_text("no image")
    np.testing.assert_allclose(greys(folder), [20, 60, 120], atol=2)


@pytest.mark.parametrize("rate", [None, 30, 7.5, Fraction(30000, 1001), 240])
def test_rate_of_folder(rate: float | None, tmp_path: Path) -> None:
    for number in range(12):
        image(tmp_path / "frames" / f"{number}.png", number)
    with open_source(tmp_path / "frames", rate=rate) as reader:
        assert reader.info.name == str(tmp_path / "frames")
        times = [frame.pts_seconds for frame in reader]
    assert times == pytest.approx([number / float(rate or 25) for number in range(12)])


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        *((1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0))),
        *((5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))),
    ],
)
def test_exif_orientation_is_applied(orientation: int, corner: tuple[int, int], tmp_path: Path) -> None:
    bright = np.zeros((32, 48, 3), np.uint8)
    bright[:16, :16] = 255
    data = cv2.imencode(".jpg", bright)[1].tobytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    photograph = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    (tmp_path / "a.jpg").write_bytes(photograph)
    with open_source(tmp_path) as reader:
        (frame,) = reader
    assert frame.image.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    assert frame.image[corner].min() > 200


SDP = """v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=x\r
c=IN IP4 127.0.0.1\r
t=0 0\r
m=video 5004 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
"""
MPD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>
<Representation id="0" mimeType="video/mp4"><BaseURL>clip.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>
"""
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
NAMING = {
    "upload.mp4": "ffconcat version 1.0\nfile clip.ts\n",
    "list.ffconcat": "ffconcat version 1.0\nfile clip.ts\n",
    "list.m3u8": PLAYLIST.format("clip.ts"),
    "hidden.mp4": PLAYLIST.format("clip.ts"),
    "call.sdp": SDP,
    "call.mp4": SDP,
    "list.mpd": MPD,
    "image.mp4": "clip.ts",
}


@pytest.mark.parametrize("name", NAMING)
def test_file_that_names_other_files_is_refused(name: str, clip: MakeClip) -> None:
    path = clip("clip.ts", frames=3).with_name(name)
    path.write_text(NAMING[name])
    for opener in (VideoReader, open_source):
        with pytest.raises(VideoError, match=rf"^{re.escape(str(path))}: (this is no video|.*Invalid data)") as caught:
            opener(path)
        assert "\n" not in str(caught.value)
    assert not is_video(path.rename(path.with_suffix("")))


def test_list_of_files_is_read_on_request(clip: MakeClip) -> None:
    path = clip("clip.ts").with_name("upload.mp4")
    path.write_text(NAMING["upload.mp4"])
    with VideoReader(path, container_format="concat") as reader:
        assert len(list(reader)) == 30
    path.write_text(PLAYLIST.format("clip.ts"))
    with VideoReader(path.rename(path.with_name("list.m3u8")), container_format="hls") as reader:
        assert len(list(reader)) == 30


@pytest.mark.parametrize("address", ["data:video/mp2t;base64,AAAA", "concat:a.ts|b.ts", "subfile:,,:a.ts", "-"])
def test_names_are_never_protocols(address: str, clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip("a.ts", frames=3).parent)
    with pytest.raises(VideoError, match="No such file"):
        open_source(address)


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "camera:0", "concat:a|b.mp4", "-", "%05d.mp4", "file:a.mp4", "http:/a.mp4", "pipe:0"]
)
def test_path_that_exists_is_a_file(name: str, clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    source = clip(frames=3)
    monkeypatch.chdir(source.parent)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(source.read_bytes())
    with open_source(name) as reader, VideoWriter(Path(name).with_name("12:31.mp4"), reader) as writer:
        assert isinstance(reader, VideoReader)
        for frame in reader:
            writer.write(frame)
    assert Path(name).with_name("12:31.mp4").is_file()
    assert not is_address(name)


def test_colon_in_folder(clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("2024-05-01T12:30:00 100%")
    for number in range(3):
        image(folder / f"{number:03}.png", number * 10)
    assert greys(folder) == greys(folder / "%03d.png") == [0, 10, 20]
    clip("s.mp4", frames=3).rename(folder / "s.mp4")
    with open_source(folder / "s.mp4") as reader:
        assert len(list(reader)) == 3


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode")
def test_name_that_is_not_utf8(clip: MakeClip) -> None:
    source = clip(frames=3)
    path = source.rename(source.with_name(os.fsdecode(b"caf\xe9.mp4")))
    target = path.with_name(os.fsdecode(b"out\xff.mp4"))
    with open_source(path) as reader, VideoWriter(target, reader) as writer:
        for frame in reader:
            writer.write(frame)
    assert target in path.parent.iterdir()
    with pytest.raises(VideoError, match="No such file"):
        open_source(path.with_name(os.fsdecode(b"none\xe9.mp4")))


def test_zero_byte_in_name(clip: MakeClip) -> None:
    with pytest.raises(VideoError, match="zero byte"):
        open_source(f"{clip(frames=3)}\0.txt")


@pytest.mark.parametrize("scheme", ["file", "ftp", "ipfs"])
def test_unknown_scheme_is_refused(scheme: str, clip: MakeClip) -> None:
    with pytest.raises(VideoError, match=rf"{scheme}:// is not supported; (name the path|use an address)"):
        open_source(f"{scheme}://{clip(frames=3)}")


def test_web_playlist_reads_no_files(clip: MakeClip, serve: Serve) -> None:
    """A playlist is opened if its address ends like one; its pieces are on the web, too."""
    path = clip("clip.ts")
    head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n"

    def reply(data: bytes) -> dict[str, Any]:
        return {"data": data, "head": head % len(data)}

    pieces = serve(*[reply(path.read_bytes())] * 4)
    web = reply(PLAYLIST.format(f"http://127.0.0.1:{pieces.port}/clip.ts").encode())
    with open_source(f"http://127.0.0.1:{serve(*[web] * 4).port}/list.m3u8?a=1", reconnect=0) as reader:
        assert len(list(reader)) == 30
    with pytest.raises(VideoError):
        open_source(f"http://127.0.0.1:{serve(*[web] * 4).port}/list.mp4", reconnect=0)
    for name in (str(path), f"file:{path}", path.as_uri()):
        local = reply(PLAYLIST.format(name).encode())
        with pytest.raises(VideoError):
            open_source(f"http://127.0.0.1:{serve(*[local] * 4).port}/list.m3u8", reconnect=0)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "100%03d.jpg", "a.webp"])
def test_single_image(name: str, tmp_path: Path) -> None:
    image(tmp_path / name, 40)
    image(tmp_path / "100001.jpg", 200)
    with VideoReader(tmp_path / name) as reader:
        assert [int(frame.image.mean().round()) for frame in reader] == [pytest.approx(40, abs=1)]


def test_image_of_folder_that_names_other_images(tmp_path: Path) -> None:
    image(tmp_path / "secret.png", 200)
    image(tmp_path / "frames" / "0.png", 10)
    (tmp_path / "frames" / "1.png").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.png'}\n")
    with pytest.raises(VideoError):
        greys(tmp_path / "frames")


def test_external_track_of_movie_is_not_read(clip: MakeClip) -> None:
    """A QuickTime file may refer to the data of its tracks in other files (an alias record in ``dref``)."""
    path = clip("secret.mov", frames=3)
    data = path.read_bytes()
    alias = bytearray(150)
    name = str(path).encode()
    alias += struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + bytes(alias)
    at = data.index(b"dref") + 4 + 8
    size = int.from_bytes(data[at : at + 4], "big")
    outside = bytearray(data[:at] + entry + data[at + size :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = outside.index(box) - 4
        grown = int.from_bytes(outside[place : place + 4], "big") + len(entry) - size
        outside[place : place + 4] = grown.to_bytes(4, "big")
    upload = path.with_name("upload.mov")
    upload.write_bytes(bytes(outside))
    with VideoReader(upload, options={"enable_drefs": "1", "use_absolute_path": "1"}) as reader:
        assert len(list(reader)) == 3
    with pytest.raises(VideoError):
        list(VideoReader(upload))


def test_image_durations_do_not_drift() -> None:
    lines = concat_script([Path("/a.png")] * 3000, Fraction(30)).splitlines()
    assert sum(float(line.split()[1]) for line in lines if line.startswith("duration")) == pytest.approx(100, abs=1e-6)


def test_invalid_folders(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="there are no images"):
        open_source(tmp_path)
    image(tmp_path / "a.png", 0)
    image(tmp_path / "b.jpg", 0)
    with pytest.raises(VideoError, match="several types, JPEG, PNG"):
        open_source(tmp_path)
    (tmp_path / "b.jpg").unlink()
    image(tmp_path / "b.png", 0, (40, 20))
    with pytest.raises(VideoError, match="the frame size changes from 30×20 to 40×20"):
        greys(tmp_path)
    image(tmp_path / "100%d.png", 0)
    with pytest.raises(VideoError, match="rename it"):
        open_source(tmp_path)


def test_broken_image_in_folder(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / f"{number}.png", number)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match="frame 1"):
        greys(tmp_path)


def test_rate_is_only_for_images(clip: MakeClip, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="rate applies only to images and cameras"):
        open_source(clip(), rate=25)
    image(tmp_path / "0.png", 0)
    with pytest.raises(OptionError, match="rate=0"):
        open_source(tmp_path / "%d.png", rate=0)


@pytest.mark.parametrize(
    ("which", "platform", "rate", "expected"),
    [
        ("0", "linux", None, ("v4l2", "/dev/video0", {})),
        ("/dev/video2", "linux", "30", ("v4l2", "/dev/video2", {"framerate": "30"})),
        ("1", "darwin", None, ("avfoundation", "1:none", {"framerate": "30"})),
        ("FaceTime HD", "darwin", "15", ("avfoundation", "FaceTime HD:none", {"framerate": "15"})),
        ("1", "win32", None, ("dshow", "video=Second", {})),
        ("Integrated Camera", "win32", None, ("dshow", "video=Integrated Camera", {})),
    ],
)
def test_cameras_by_platform(which: str, platform: str, rate: str | None, expected: Any) -> None:
    assert find_camera(which, platform, lambda: ["First", "Second"], rate) == expected


@pytest.mark.parametrize(
    ("which", "platform", "message"),
    [("", "linux", "camera:0"), ("2", "win32", "the choices are: First"), ("0", "sunos5", "not supported on sunos5")],
)
def test_missing_cameras(which: str, platform: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        find_camera(which, platform, lambda: ["First"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rtsp://me:secret@host:554/a", "rtsp://me:***@host:554/a"),
        ("rtsp://host:554/a@b", "rtsp://host:554/a@b"),
        ("C:/clips/a.mp4", "C:/clips/a.mp4"),
    ],
)
def test_password_is_redacted(name: str, shown: str) -> None:
    assert redact_password(name) == shown


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipe_is_no_animation(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert not is_animation(tmp_path / "a.png")
