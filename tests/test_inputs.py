"""What callers hand in for an image: files, their content, addresses, and objects of other libraries."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from scrfd_trt import ImageError, SCRFDDetector, _inputs, samples
from scrfd_trt._inputs import download, open_picture, pixels_of

pytestmark = pytest.mark.slow  # nothing here depends on the version of Python

FILES = {"/a.jpg": b"content", "/long": b"x" * 300_000}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        goal = {"/there": "/a.jpg", "/loop": "/loop", "/away": "ftp://127.0.0.1/a.jpg", "/bad": "http://["}
        body = FILES.get(self.path, b"")
        self.send_response(302 if self.path in goal else 200 if self.path in (*FILES, "/cut", "/slow") else 404)
        self.send_header("Location", goal.get(self.path, ""))
        if self.path not in {"/long", "/slow"}:
            self.send_header("Content-Length", str(len(body) + 5 * (self.path == "/cut")))
        self.end_headers()
        self.wfile.write(body)
        for _ in range(20 if self.path == "/slow" else 0):
            self.wfile.write(b"x")
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pytest.importorskip("requests")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(site: str) -> None:
    assert download(f"{site}/a.jpg") == download(f"{site.upper()}/there") == b"content"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none?key=secret", "/none: the server answers 404 Not Found: check the address"),
        ("/loop", "/loop: the file cannot be downloaded (more than 5 redirects)"),
        ("/away", "/away: the file cannot be downloaded (no connection adapters were found for 'ftp:"),
        ("/bad", "/bad: the file cannot be downloaded ("),
        ("/cut", "/cut: the "),
        ("/long", "/long: the file has more than 0 MB: make it smaller"),
    ],
)
def test_failed_downloads_name_address_and_reason(site: str, path: str, message: str) -> None:
    with pytest.raises(ImageError, match=re.escape(site + message)) as caught:
        download(site + path, max_bytes=200_000)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_server_that_sends_a_byte_now_and_then(site: str) -> None:
    with pytest.raises(ImageError, match=r"takes longer than 0\.1 seconds"):
        download(f"{site}/slow", max_seconds=0.1)


@pytest.mark.parametrize("address", ["ftp://host/a.jpg", "http://[", "http://user:secret@127.0.0.1:1/" + "a" * 9000])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ImageError) as caught:
        download(address)
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def detector(network_500m: Path) -> Iterator[SCRFDDetector]:
    with SCRFDDetector.from_onnx(network_500m, device="cpu", scales=128) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.ascontiguousarray(samples.load("portrait").image[::4, ::4])


@pytest.fixture(scope="module")
def folder(picture: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images, the second of which is damaged, and files that are no images."""
    folder = tmp_path_factory.mktemp("photos")
    for name, image in (("a.png", picture), ("c.PNG", picture[:, ::-1])):
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (folder / "b.jpg").write_bytes(b"no image")
    for name in (".hidden.png", "notes.txt", "clip.mp4"):
        (folder / name).write_bytes(b"something")
    (folder / "sub.png").mkdir()
    return folder


class Tensor:
    """A tensor on the CPU, of a library that has DLPack only."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


@pytest.mark.parametrize("color", ["bgr", "rgb", "nv12"])
def test_one_picture_in_all_forms(
    detector: SCRFDDetector, picture: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch, color: str
) -> None:
    (expected,) = detector.detect_batch([picture])
    assert len(expected) == 1
    options = detector.options.model_copy(update={"color": color})
    monkeypatch.setitem(vars(detector), "options", options)
    monkeypatch.setattr(detector._pipeline, "_options", options)
    monkeypatch.setattr(detector._pipeline, "_color", "rgb" if color == "rgb" else "bgr")
    path = folder / "a.png"
    content = path.read_bytes()
    av = pytest.importorskip("av")
    forms = [path, str(path), content, bytearray(content), memoryview(content), io.BytesIO(content), Image.open(path)]
    forms += [Image.open(path).convert("RGBA"), av.VideoFrame.from_ndarray(picture, format="bgr24")]
    with path.open("rb") as file:
        assert [detector(form) for form in (*forms, file)] == [expected] * (len(forms) + 1)
    if color == "bgr":
        tensors = [Tensor(picture), Tensor(np.ascontiguousarray(picture.transpose(2, 0, 1)))]
        assert detector.detect_batch(tensors) == [expected] * 2


def test_an_address_is_an_image(detector: SCRFDDetector, folder: Path, site: str, picture: np.ndarray) -> None:
    FILES["/photo"] = (folder / "a.png").read_bytes()
    assert detector.detect_batch([f"{site}/photo"]) == [detector(picture)]
    secret = f"{site}/photo".replace("://", "://me:secret@")
    for found in (detector(secret), *detector.detect_batch([secret]), *detector.stream([secret])):
        assert found.source == secret.replace("secret", "***")
        assert "secret" not in found.to_csv()
    with pytest.raises(ImageError, match=r"/a.jpg: not a supported image"):
        detector(f"{site}/a.jpg")


def gray(*values: int) -> np.ndarray:
    return np.repeat(np.array([values], np.uint8)[..., None], 3, 2)


def test_closed_images_and_pairs_of_opencv(tmp_path: Path) -> None:
    file = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))
    path = tmp_path / "a.png"
    path.write_bytes(file[1].tobytes())
    with Image.open(path) as closed, Image.open(path) as loaded:
        loaded.load()
    assert pixels_of(loaded, "bgr").shape == (9, 9, 3)
    loaded.close()
    for image in (closed, loaded):
        with pytest.raises(ImageError, match=r"^the image is closed: "):
            pixels_of(image, "bgr")
    with pytest.raises(ImageError, match=r"^cv2\.imencode\(\) returns whether it worked, and a file: "):
        pixels_of(file, "bgr")


def test_modes_of_pillow_images() -> None:
    red = np.array([[[0, 0, 255], [0, 0, 255]]], np.uint8)
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    see_through = palette.copy()
    see_through.info["transparency"] = 1
    sideways = Image.new("RGB", (1, 2), (255, 0, 0))
    sideways.getexif()[0x0112] = 6
    values = np.array([[0, 65535]], np.uint16)
    cases = [
        (Image.new("RGB", (2, 1), (255, 0, 0)), red),
        (sideways, red),
        (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), red),
        (palette, red),
        (see_through, gray(255, 255)),
        (Image.new("LA", (2, 1), (0, 0)), gray(255, 255)),
        (Image.new("1", (2, 1), 1), gray(255, 255)),
        (Image.fromarray(values), gray(0, 255)),
        (Image.frombytes("I;16B", (2, 1), b"\x00\x00\x40\x00"), gray(0, 64)),
    ]
    for image, expected in cases:
        opened = open_picture(image)
        assert opened is not None
        assert np.array_equal(opened.decode(), expected), image.mode


def test_frame_of_a_turned_video(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:, :120]), format="bgr24")
    matrix = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], np.int32).tobytes()  # as a telephone held upright
    monkeypatch.setattr("scrfd_trt.video._colors.side_data", lambda _: {"DISPLAYMATRIX": matrix})
    opened = open_picture(frame)
    assert opened is not None
    assert np.array_equal(opened.decode(), np.rot90(picture[:, :120], -1))


def test_first_page_of_several(detector: SCRFDDetector, picture: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    pages = [Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1])), Image.new("RGB", (8, 8))]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    with caplog.at_level(logging.WARNING):
        assert detector(file.getvalue()) == detector(picture)
    assert "the image has 2 pages; only the first is used" in caplog.text


def test_several_images(detector: SCRFDDetector, picture: np.ndarray, folder: Path) -> None:
    both = [picture, np.ascontiguousarray(picture[:, ::-1])]
    expected = [detector(image) for image in both]
    paths = [folder / "a.png", folder / "c.PNG"]
    mixed = np.empty(2, object)
    mixed[:] = [both[0], both[1]]
    names = np.array([str(path) for path in paths])
    contents = np.array([path.read_bytes() for path in paths], object)
    forms = [paths, iter(both), np.stack(both), mixed, names, contents, str(folder / "[ac].*"), [paths[0], both[1]]]
    for form in (*forms, [both[0], Image.open(paths[1])], [io.BytesIO(contents[0]), str(paths[1])]):
        assert detector.detect_batch(form) == expected
    assert list(detector.stream(folder / "*.[pP][nN][gG]", batch=1)) == expected
    assert detector.submit(paths).result() == expected
    assert [faces.source for faces in detector.stream([paths[0], both[1], str(paths[1])])] == [
        *(str(paths[0]), None, str(paths[1]))
    ]
    assert detector(paths[0])[:1].source == str(paths[0])
    first, error, last = detector.detect_batch(folder, on_error="return")
    assert [first, last] == expected
    assert isinstance(error, ImageError)
    assert error.subject == str(folder / "b.jpg")
    with pytest.raises(ImageError, match=r"image 1: .*b\.jpg: not a supported image"):
        list(detector.stream(str(folder)))


def test_columns_of_pandas(detector: SCRFDDetector, picture: np.ndarray, folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    paths = [str(folder / "a.png"), str(folder / "c.PNG")]
    table = pandas.DataFrame({"image": [picture, np.ascontiguousarray(picture[:, ::-1])], "path": paths})
    assert detector.detect_batch(table["image"]) == detector.detect_batch(table["path"]) == detector.detect_batch(paths)
    assert detector.detect_batch(table["image"].to_numpy()) == detector.detect_batch(paths)
    with pytest.raises(ImageError, match="pass the images of one column"):
        detector.detect_batch(table)


@pytest.mark.parametrize("limit", [1, 1 << 29])
def test_files_are_read_ahead_in_threads(
    detector: SCRFDDetector, picture: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    threads, taken, opened = set(), [], open_picture

    def recording(image: Any) -> Any:
        threads.add(threading.current_thread().name)
        return opened(image)

    def paths() -> Iterator[Any]:
        for number in range(60):
            taken.append(number)
            yield folder / ("a.png" if number % 3 else "c.PNG") if number != 40 else picture

    monkeypatch.setattr(_inputs, "open_picture", recording)
    monkeypatch.setattr(_inputs, "MAX_BYTES_AHEAD", limit)
    monkeypatch.setattr(_inputs, "usable_cores", lambda: 2)
    expected = detector.detect_batch([folder / "c.PNG", folder / "a.png"])
    stream = detector.stream(paths(), batch=2, in_flight=1)
    assert next(stream) == expected[0]
    assert len(taken) <= 2 + 2 * 2 + 2
    found = list(stream)
    assert [faces == expected[number % 3 > 0 or number == 40] for number, faces in enumerate(found, 1)] == [True] * 59
    assert any(name.startswith("scrfd-trt-job") for name in threads)
    del stream
    assert not [each for each in threading.enumerate() if each.name.startswith("scrfd-trt-job")]


def test_large_images_end_a_batch_early(
    detector: SCRFDDetector, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, start = [], detector._pipeline.start
    monkeypatch.setattr("scrfd_trt._detector.MAX_BATCH_BYTES", 2 * picture.nbytes)
    monkeypatch.setattr(
        detector._pipeline, "start", lambda group, *limits: sizes.append(len(group)) or start(group, *limits)
    )
    detector.detect_batch([Image.fromarray(picture)] * 4)
    assert sizes == [2, 2]


def test_stream_of_files_that_is_dropped_ends_its_threads(detector: SCRFDDetector, folder: Path) -> None:
    stream = detector.stream(folder / "a.png" for _ in range(100))
    next(stream)
    stream.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("scrfd-trt-job")]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"x" * 60_000, "not a supported image"),
        (b"<!DOCTYPE html><html>", "this is a web page"),
        ("x" * 60_000, "cannot be read: File name too long"),
        ("no\0name", "null|no such file"),
        ("none.jpg", "none.jpg: there is no such file"),
        ("", "the path of the image is empty"),
        (io.TextIOWrapper(io.BytesIO(b"\xff\xd8")), "open it in binary mode"),
        (np.zeros(7, np.uint8), r"bytes, with \.tobytes\(\)"),
        ("{folder}", r"this is a folder: call detect_batch\(folder\) or stream\(folder\), with the folder alone"),
        ("{folder}/*.jpg", "this is a glob: call detect_batch or stream"),
        (
            "{folder}/clip.mp4",
            r"a video: scrfd_trt\.video\.find_faces\(VideoReader\(path\), detector\) yields the faces",
        ),
        (cv2.VideoCapture(), "^VideoCapture is a video: .*find_faces.*; or pass its frames$"),
        ((True, np.zeros((4, 4, 3), np.uint8)), r"read\(\) returns .* pass the second"),
        ("ftp://host/a.jpg", "must begin with https"),
        (io.BytesIO(), r"call seek\(0\)"),
        (io.StringIO("text"), "open it in binary mode"),
        (None, "cv2.imread returns"),
        ([[0] * 1000] * 1000, r"of type list: pass numpy\.array\(image, numpy\.uint8\)"),
        (5, "is of type int: an array .*'camera:5'"),
        (Tensor(np.zeros((3, 4, 4), np.uint8)), "may be"),
        (np.zeros((3, 40, 50), np.uint8), r"channels first: .* call \.transpose\(1, 2, 0\)"),
        (np.arange(60_000).astype(object).reshape(100, 200, 3), "element type object"),
    ],
    ids=range(22),
)
def test_wrong_images_get_one_short_line(detector: SCRFDDetector, folder: Path, image: Any, message: str) -> None:
    if isinstance(image, str):
        image = image.replace("{folder}", str(folder))
    with pytest.raises(ImageError, match=message) as caught:
        detector(image)
    assert len(str(caught.value)) < 350
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"x" * 60_000, "requires several images, not bytes; for one image, call detect"),
        (io.BytesIO(b"x"), "requires several images, not BytesIO"),
        (np.zeros((4, 4, 3), np.uint8), "not one array"),
        (Image.new("RGB", (1, 1)), "requires several images, not Image"),
        (cv2.VideoCapture(), "^VideoCapture is a video: .*find_faces"),
        ({"image": [1]}, "pass the images of one column"),
        ("{folder}/sub.png", "contains no images"),
        ("{folder}/*.gif", "no file matches this pattern"),
        ("none.jpg", "image 0: none.jpg: there is no such file"),
    ],
)
def test_wrong_batches_get_one_short_line(detector: SCRFDDetector, folder: Path, images: Any, message: str) -> None:
    if isinstance(images, str):
        images = images.replace("{folder}", str(folder))
    with pytest.raises(ImageError, match=message) as caught:
        detector.detect_batch(images)
    assert len(str(caught.value)) < 350


def test_tensors_of_pytorch(detector: SCRFDDetector, picture: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(picture)
    forms = [tensor, tensor.permute(2, 0, 1), (tensor / 255).requires_grad_(), (tensor.permute(2, 0, 1) / 255).double()]
    assert [detector(form) for form in forms] == [detector(picture)] * 4
    assert detector.detect_batch(torch.stack([tensor.permute(2, 0, 1)] * 2)) == [detector(picture)] * 2
    with pytest.raises(ImageError, match="of type Tensor cannot be read"):
        detector(tensor.to(torch.bfloat16))


def test_arrays_of_jax(detector: SCRFDDetector, picture: np.ndarray) -> None:
    jax = pytest.importorskip("jax")
    array = jax.numpy.asarray(picture)
    assert detector(array) == detector(array.transpose(2, 0, 1)) == detector(picture)
    assert detector.detect_batch(jax.numpy.stack([array] * 2)) == [detector(picture)] * 2


def test_a_home_folder_is_known_by_its_sign(detector: SCRFDDetector, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    assert len(detector("~/a.png")) == len(detector.detect_batch("~/*.png")[0]) == 0
