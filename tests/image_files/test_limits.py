"""Small files that ask for much memory or time are refused before they are decoded."""

from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import HAS_AVIF, NOISE, chunk, encoded, png_of, saved, tiff_of

from scrfd_trt._image_files import Limits, open_image, read_image
from scrfd_trt.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0))
ZEROS = zlib.compress(bytes(100_000_000), 9)
TEXTS = {b"iCCP": b"x\0\0", b"zTXt": b"x\0\0", b"iTXt": b"x\0\1\0\0\0"}


def deflated_zeros(megabytes: int) -> bytes:
    """Return what is decompressed to zeros; all blocks are alike."""
    coder = zlib.compressobj(9)
    start = coder.compress(b"") + coder.flush(zlib.Z_FULL_FLUSH)
    return start + (coder.compress(bytes(1_000_000)) + coder.flush(zlib.Z_FULL_FLUSH)) * megabytes + coder.flush()


def jpeg_of_scans(number: int, side: int) -> bytes:
    data = encoded(".jpg", np.zeros((side, side, 3), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * number + b"\xff\xd9"


def jpeg_of(marker: bytes, width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg", NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, int(marker == b"\xff\xc2")))
    at = data.index(marker)
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_of(width: int, height: int, frames: int, frame: int = 1) -> bytes:
    start = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    one = b"\x21\xf9\x04\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\0"
    return start + one * frames + b";"


def tiff_with(*changes: tuple[int, int, int, int]) -> bytes:
    tags = [(256, 4, 1, 100), (257, 4, 1, 100), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 1000)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 100), (279, 4, 1, 10000)]
    return tiff_of(list({tag[0]: tag for tag in [*tags, *changes]}.values()), bytes(10000))


def tiff_of_directories(number: int) -> bytes:
    one = struct.pack("<HHHII", 1, 256, 4, 1, 1)
    links = [8 + 18 * (place + 1) for place in range(number - 1)]
    return b"II*\0\x08\0\0\0" + b"".join(one + struct.pack("<I", link) for link in [*links, 0])


def webp_of(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x64\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + sides + bytes(80)


def with_bytes(data: bytes, name: bytes, skipped: int, content: bytes) -> bytes:
    at = data.index(name) + skipped
    return data[:at] + content + data[at + len(content) :]


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png idat of 4 GB": (lambda: SIGNATURE + HEADER[:-4] + b"\xff\xff\xff\xffIDATx", "damaged|cut off"),
    "png idat of 2 GB": (lambda: SIGNATURE + HEADER + b"\x7f\xff\xff\xffIDATx", "cut off after"),
    "png pixels": (lambda: png_of(17_000, 17_000), "cannot hold its pixels"),
    "png side": (lambda: png_of(2**31 - 1, 2**31 - 1), "more than 300 million"),
    "png long surplus": (
        lambda: SIGNATURE + HEADER + chunk(b"IDAT", deflated_zeros(5_000)) + chunk(b"IEND", b""),
        "more data than pixels",
    ),
    "apng frames": (
        lambda: png_of(5000, 5000, chunk(b"acTL", bytes(8)), *[chunk(b"fcTL", bytes(26))] * 300, content=bytes(10**8)),
        "takes too long to decode: its frames together have 7,500 million pixels",
    ),
    "jpeg side": (lambda: jpeg_of(b"\xff\xc0", 65_535, 65_535), "more than 300 million"),
    "jpeg pixels": (lambda: jpeg_of(b"\xff\xc0", 17_000, 17_000), "cannot hold 289,000,000 pixels"),
    "progressive jpeg pixels": (lambda: jpeg_of(b"\xff\xc2", 17_000, 17_000), "cannot hold 289,000,000 pixels"),
    "jpeg scans": (lambda: jpeg_of_scans(200_000, 200), "its scans together have 8,000 million pixels"),
    "gif canvas": (lambda: gif_of(65_535, 65_535, 20), "65535×65535 pixels, more than 300 million"),
    "gif frame": (lambda: gif_of(1, 1, 2, 65_535), "65535×65535 pixels, more than 300 million"),
    "gif frames": (lambda: gif_of(17_000, 17_000, 40), "its frames together have 11,560 million pixels"),
    "tiff side": (lambda: tiff_with((256, 4, 1, 60_000), (257, 4, 1, 60_000)), "more than 300 million"),
    "tiff samples": (lambda: tiff_with((277, 3, 1, 65_535)), "65535 channels"),
    "tiff strip": (lambda: tiff_with((279, 4, 1, 2**32 - 16)), "cut off after"),
    "tiff strips": (lambda: tiff_with((273, 4, 2**28, 1000), (279, 4, 2**28, 1000)), "damaged"),
    "tiff tile": (lambda: tiff_with((322, 4, 1, 2**20), (323, 4, 1, 2**20), (324, 4, 1, 9)), "its tiles are larger"),
    "tiff directories": (lambda: tiff_of_directories(30_000), "damaged"),
    "tiff tags": (lambda: b"II*\0\x08\0\0\0" + b"\xff\xff" * 1_000_000, "damaged"),
    "webp canvas": (lambda: webp_of(2**24, 2**24), "more than 300 million"),
    "webp frames": (lambda: webp_of(16_000, 16_000), "damaged"),
    "ppm": (lambda: b"P6\n99999 99999\n255\n", "more than 300 million"),
    "ppm pixels": (lambda: b"P6\n17000 17000\n255\n", "cut off after 19 of"),
    "ppm text": (lambda: b"P3 17000 17000 255\n1 1 1", "cut off after"),
    "ppm comment": (lambda: b"P6\n" + b"#" * 10_000_000, "damaged"),
    "pam": (lambda: b"P7\nWIDTH 99\nHEIGHT 99\nDEPTH 4000000\nMAXVAL 255\nENDHDR\n", "cut off after"),
    "pfm": (lambda: b"PF\n17000 17000\n-1.0\n", "cut off after"),
    "bmp": (
        lambda: with_bytes(encoded(".bmp"), b"BM", 18, struct.pack("<ii", 60_000, -60_000)),
        "more than 300 million",
    ),
    "jp2": (lambda: with_bytes(encoded(".jp2"), b"\xffO\xffQ", 8, struct.pack(">II", 60_000, 60_000)), "more than 300"),
    "hdr": (lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n", "more than 300 million"),
    "ras": (lambda: struct.pack(">8I", 0x59A66A95, 60_000, 60_000, 24, 0, 1, 0, 0), "more than 300 million"),
    "boxes": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x08free" * 300_000, "cut off|pillow-heif"),
}
if HAS_AVIF:
    sides = struct.pack(">II", 60_000, 60_000)
    BOMBS["avif"] = (lambda: with_bytes(saved(NOISE, "AVIF"), b"ispe", 8, sides), "damaged|more than 300 million")

CHILD = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    import PIL.Image
    from scrfd_trt._image_files import open_image
    from scrfd_trt.errors import ScrfdError

    def peak():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    for path in sorted(Path(sys.argv[1]).iterdir()):
        content = path.read_bytes()
        Path("/proc/self/clear_refs").write_text("5")
        before, start = peak(), time.process_time()
        try:
            for _ in open_image(content).frames():
                pass
            told = "read"
        except ScrfdError as error:
            told = str(error)
        print(path.name, (peak() - before) // 1024, round(time.process_time() - start, 2), told, sep="|")
""")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, float, str]]:
    """Memory in MiB, seconds and message by name; in a child, whose memory can be measured."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux measures the largest memory from some moment on")
    folder = tmp_path_factory.mktemp("bombs")
    texts = {
        f"png {name.decode()}": png_of(10, 10, chunk(name, text + ZEROS), content=bytes(310))
        for name, text in TEXTS.items()
    }
    for name, content in {**{name: make() for name, (make, _) in BOMBS.items()}, **texts}.items():
        (folder / name).write_bytes(content)
    command = [sys.executable, "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return {name: (int(memory), float(seconds), told) for name, memory, seconds, told in rows}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_nothing(name: str, outcomes: dict[str, tuple[int, float, str]]) -> None:
    memory, seconds, told = outcomes[name]
    assert any(part in told for part in BOMBS[name][1].split("|")), told
    assert memory < 64
    assert seconds < 3


@pytest.mark.parametrize("name", TEXTS)
def test_compressed_texts_and_profiles_of_png_are_not_decompressed(
    name: bytes, outcomes: dict[str, tuple[int, float, str]]
) -> None:
    memory, seconds, told = outcomes[f"png {name.decode()}"]
    assert told == "read"
    assert memory < 64
    assert seconds < 2


def test_ordinary_pictures_of_200_million_pixels_pass() -> None:
    data = png_of(16_320, 12_240, content=bytes(1_000_000))
    with pytest.raises(ImageError, match="cannot hold its pixels"):
        open_image(data)
    assert open_image(data, damaged="keep").size == (16_320, 12_240)


def test_limits_can_be_raised_and_lowered() -> None:
    for data in (encoded(".png"), encoded(".jpg"), encoded(".webp"), encoded(".bmp"), saved(NOISE, "TIFF")):
        with pytest.raises(ImageError, match=r"^x: the image has 60×40 pixels, more than 0.002399 million") as caught:
            open_image(data, limits=Limits(pixels=2399), name="x")
        assert caught.value.fields == ("max_pixels",)
        assert read_image(data, limits=Limits(pixels=2400)).pixels.shape == NOISE.shape
    with pytest.raises(ImageError, match=r"make it smaller$") as caught:
        open_image(encoded(".png"), limits=Limits(pixels=9, option=""))
    assert caught.value.fields == ()


def test_compressible_pictures_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from scrfd_trt._image_files import png

    monkeypatch.setattr(png, "MAX_SURPLUS", 1000)
    flat = np.full((400, 500, 3), 7, np.uint8)
    assert (read_image(encoded(".png", flat)).pixels == 7).all()
