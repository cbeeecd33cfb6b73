"""The content of files is told by their first bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scrfd_trt._cli.content import Content, identify, identify_bytes

TS = b"".join(b"\x47" + bytes(187) for _ in range(5))
M2TS = b"".join(bytes(4) + b"\x47" + bytes(187) for _ in range(5))


@pytest.mark.parametrize(
    "start",
    [
        b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
        b"\0\0\0\x14ftypqt  ",
        b"\0\0\x10\0moov\0\0\0\x6cmvhd",
        b"\0\0\0\x08wide\0\0\x10\0mdat",
        b"\x1a\x45\xdf\xa3\x9f\x42\x86",
        b"RIFF\0\0\1\0AVI LIST",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
        b"FLV\1\5\0\0\0\x09",
        b"\0\0\1\xba\x44\0",
        b"\0\0\1\xb3\x16\0",
        b"\0\0\0\1\x67\x64",
        b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01",
        b"YUV4MPEG2 W16 H16",
        b"OggS\0\2" + bytes(22) + b"\x80theora",
        TS[:1024],
        M2TS[:1024],
    ],
)
def test_video(start: bytes) -> None:
    assert identify_bytes(start + bytes(20)).kind == "video"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (b"\xff\xd8\xff\xe0", b"", Content("image", "jpeg")),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1", b"", Content("image", "avif")),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", b"", Content("image", "heic")),
        (b"P5 16 16 255\n", b"", Content("image", "pnm")),
        (b"P6\n# made by hand\n4 4\n255\n\0", b"", Content("image", "pnm")),
        (b"BM\x36\x30\0\0\0\0\0\0\x36", b"", Content("image", "bmp")),
        (b"\xff\x0a\xfa\x1f", b"", Content("unsupported image", "JPEG XL")),
        (b"\0\0\2\0", b"TRUEVISION-XFILE.\0", Content("unsupported image", "Targa")),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", b"", Content("unsupported image", "Canon raw")),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", b"", Content("unknown")),
        (b"OggS\0\2" + bytes(22) + b"\x01vorbis", b"", Content("unknown")),
        (b"RIFF\0\0\1\0WAVEfmt ", b"", Content("unknown")),
        (b"ftrt" + bytes(200), b"", Content("model")),
        (b"\x08\x07\x12\x07pytorch", b"", Content("model")),
        (b"BMW is a car", b"", Content("text")),
        (b"P1 is the first plan", b"", Content("text")),
        ("Größe\n".encode() * 200, b"", Content("text")),
        (b"\x47\0\1\2", b"", Content("unknown")),
    ],
)
def test_other_content(start: bytes, end: bytes, expected: Content) -> None:
    assert identify_bytes(start, end) == expected


@pytest.mark.parametrize("size", range(1020, 1030))
def test_text_that_is_cut_in_a_character(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(("a" * (size % 4) + "日" * 400).encode())
    assert identify(tmp_path / "x").kind == "text"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert identify(tmp_path / "x").kind == "empty"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_named_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert identify(tmp_path / "x").kind == "unknown"
