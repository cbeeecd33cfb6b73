from __future__ import annotations

import io
import zipfile

import pytest

from scrfd_trt.errors import ModelFormatError
from scrfd_trt.models._store import unpack


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "to"
    folder.mkdir()
    return folder


@pytest.fixture
def unpacked(tmp_path, folder, tiny):
    """Unpack the bytes of an archive into ``folder``."""

    def run(data):
        path = tmp_path / "tiny_pack.zip"
        path.write_bytes(data)
        return unpack(path, tiny.archives[0], tiny, folder)

    return run


@pytest.fixture
def ingredients(model_bytes, pack):
    """Arguments of the functions that create invalid archives."""
    return model_bytes, pack


@pytest.mark.parametrize(
    "member", ["det_tiny.onnx", "tiny_pack/det_tiny.onnx", "../../det_tiny.onnx", "/det_tiny.onnx"]
)
def test_only_the_model_is_unpacked_and_only_into_the_folder(unpacked, folder, pack, model_bytes, member):
    assert unpacked(pack(model_bytes, member)) == folder / "det_tiny.onnx"
    assert (folder / "det_tiny.onnx").read_bytes() == model_bytes
    assert {path.name for path in folder.parent.rglob("*")} == {"to", "det_tiny.onnx", "tiny_pack.zip"}


def test_existing_file_is_replaced(unpacked, folder, packed, model_bytes):
    (folder / "det_tiny.onnx").write_bytes(b"old")
    (folder / "det_tiny.onnx.part").write_bytes(b"left behind" * 100_000)
    unpacked(packed)
    assert (folder / "det_tiny.onnx").read_bytes() == model_bytes
    assert len(list(folder.iterdir())) == 1


def _damaged(packed):
    """Change bytes in the middle of the model file, the second member, which is not compressed."""
    middle = len(packed) // 2
    return packed[:middle] + bytes(byte ^ 255 for byte in packed[middle : middle + 50]) + packed[middle + 50 :]


def _huge(model_bytes):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("det_tiny.onnx", bytes(50_000_000))
    return stream.getvalue()


def _lying(model_bytes, pack):
    """Return an archive whose directory gives the expected size for a model file of 50 MB."""
    data = _huge(model_bytes)
    return data.replace((50_000_000).to_bytes(4, "little"), len(model_bytes).to_bytes(4, "little"))


def _twice(model_bytes):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/det_tiny.onnx", model_bytes)
        archive.writestr("b/det_tiny.onnx", model_bytes)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model_bytes, pack: b"<html>not found</html>", "cannot be unpacked"),
        (lambda model_bytes, pack: pack()[:1000], "cannot be unpacked"),
        (lambda model_bytes, pack: _damaged(pack()), "cannot be unpacked|has SHA-256"),
        (
            lambda model_bytes, pack: pack(model_bytes, "other.onnx"),
            "contains 0 files named det_tiny.onnx, expected one",
        ),
        (lambda model_bytes, pack: _twice(model_bytes), "contains 2 files named det_tiny.onnx, expected one"),
        (lambda model_bytes, pack: pack(model_bytes[::-1]), "has SHA-256 [0-9a-f]{8}…, expected"),
        (lambda model_bytes, pack: pack(model_bytes[1:]), "has 199,999 bytes, expected 200,000"),
        (lambda model_bytes, pack: _huge(model_bytes), "has 50,000,000 bytes, expected 200,000"),
        (_lying, "cannot be unpacked|has SHA-256"),
    ],
)
def test_invalid_archive_leaves_no_file(unpacked, folder, ingredients, make, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        unpacked(make(*ingredients))
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
