from __future__ import annotations

import re
import socket
import time
from dataclasses import replace
from threading import Event

import pytest

from scrfd_trt import models
from scrfd_trt.errors import DownloadError

ARCHIVE = "tiny_pack.zip"
PART = "tiny_pack.zip.part"
MEMBER = "det_tiny.onnx"

pytest.importorskip("requests")
pytest.importorskip("pooch")


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses between attempts; the tests do not wait."""
    taken = []
    sleep = time.sleep
    monkeypatch.setattr(
        "pooch.core.time.sleep", lambda seconds: taken.append(seconds) if seconds >= 1 else sleep(seconds)
    )
    return taken


@pytest.fixture
def refused(site, tiny):
    """Expect a failed fetch and return its message, which must say what to do; no incomplete file may be left."""

    def run(model=tiny, **options):
        with pytest.raises(DownloadError) as caught:
            models.fetch(model, **{"retries": 0, **options})
        message = str(caught.value)
        assert "\n" not in message
        assert caught.value.__cause__ is not None
        assert f"cannot download {ARCHIVE} from {site.address}/{ARCHIVE} (" in message
        assert f"download it elsewhere, extract {MEMBER} and copy it to {site.home}" in message
        assert site.files() <= {PART}
        return message

    return run


def test_progress_of_a_resumed_download(site, tiny, packed, make_bar):
    site.serve({"body": packed, "cut": 131_072}, {"body": packed})
    bar = make_bar()
    models.fetch(tiny, progress=bar)
    assert (bar.total, bar.count, bar.closed) == (len(packed), len(packed), 1)


def test_interrupted_transfer_is_resumed(site, tiny, packed, model_bytes, pauses):
    site.serve({"body": packed, "cut": 131_072}, {"body": packed})
    assert models.fetch(tiny, retries=1).read_bytes() == model_bytes
    assert site.ranges == [None, "bytes=131072-"]
    assert site.files() == {MEMBER}
    assert pauses == [1]


def test_later_call_resumes_a_cut_off_download(site, tiny, packed, model_bytes, refused):
    site.serve({"body": packed, "cut": 131_072}, {"body": packed})
    assert "cut off after 131,072" in refused()
    assert site.files() == {PART}
    assert (site.home / PART).stat().st_size == 131_072
    assert models.fetch(tiny, retries=0).read_bytes() == model_bytes
    assert site.ranges == [None, "bytes=131072-"]
    assert site.files() == {MEMBER}


def test_server_without_ranges_sends_the_whole_file(site, tiny, packed, model_bytes):
    site.serve({"body": packed, "cut": 131_072, "ranges": False}, {"body": packed, "ranges": False})
    assert models.fetch(tiny).read_bytes() == model_bytes
    assert site.ranges == [None, "bytes=131072-"]
    assert site.files() == {MEMBER}


def test_part_file_of_other_content_is_downloaded_again(site, tiny, packed, model_bytes, caplog):
    site.home.mkdir()
    (site.home / PART).write_bytes(b"?" * 100_000)
    site.serve({"body": packed})
    assert models.fetch(tiny, retries=0).read_bytes() == model_bytes
    assert site.ranges == ["bytes=100000-", None]
    assert "starting over" in caplog.text
    assert site.files() == {MEMBER}


def test_complete_part_file_is_used(site, tiny, packed, model_bytes):
    site.home.mkdir()
    (site.home / PART).write_bytes(packed)
    site.serve({"body": packed})
    assert models.fetch(tiny, retries=0).read_bytes() == model_bytes
    assert site.ranges == [f"bytes={len(packed)}-"]
    assert site.files() == {MEMBER}


def test_too_long_part_file_is_downloaded_again(site, tiny, packed, model_bytes):
    site.home.mkdir()
    (site.home / PART).write_bytes(packed + b"more")
    site.serve({"body": packed})
    assert models.fetch(tiny, retries=0).read_bytes() == model_bytes
    assert site.ranges == [f"bytes={len(packed) + 4}-", None]


def test_interrupted_download_is_resumed(site, tiny, packed, model_bytes, make_bar):
    site.serve({"body": packed})
    bar = make_bar(stop=100_000)
    with pytest.raises(KeyboardInterrupt):
        models.fetch(tiny, progress=bar)
    assert bar.closed == 1
    assert site.files() == {PART}
    assert models.fetch(tiny).read_bytes() == model_bytes
    assert site.ranges[1] is not None


def test_download_of_unknown_length(site, tiny, packed, model_bytes):
    site.serve({"body": packed, "length": False})
    assert models.fetch(tiny).read_bytes() == model_bytes


def test_cut_off_download_of_unknown_length(site, packed, refused):
    site.serve({"body": packed, "cut": 131_072, "length": False})
    assert "131,072 bytes (application/zip), expected" in refused()
    assert site.files() == set()


def test_server_that_sends_without_end_is_cut_off(site, packed, refused):
    site.serve({"body": packed + bytes(10_000_000), "length": False})
    received = re.search(r"sends ([\d,]+) bytes", refused())
    assert len(packed) < int(received[1].replace(",", "")) < 1_000_000
    assert site.files() == set()


def test_archive_with_wrong_hash_is_not_retried(site, packed, tiny, refused):
    site.serve({"body": packed[:-1] + b"\xff"})
    assert f"expected {tiny.archives[0].sha256[:8]}…" in refused(retries=2)
    assert len(site.requests) == 1
    assert site.files() == set()


@pytest.mark.parametrize("known", [True, False])
def test_wrong_model_in_the_archive(site, pack, make_model, refused, known):
    other = pack(bytes(200_000))
    model = make_model(other)
    if not known:
        model = replace(model, archives=(models.Archive(ARCHIVE, MEMBER),))
    site.serve({"body": other})
    assert f"expected {model.sha256[0][:8]}…" in refused(model)
    assert site.files() == set()


@pytest.mark.parametrize("known", [True, False])
def test_web_page_instead_of_the_archive(site, tiny, refused, known):
    model = tiny if known else replace(tiny, archives=(models.Archive(ARCHIVE, MEMBER),))
    site.serve({"body": b"<html>Please log in</html>", "kind": "text/html; charset=utf-8"})
    message = refused(model, retries=2)
    assert ("26 bytes (text/html)" if known else "cannot be unpacked") in message
    assert len(site.requests) == 1
    assert site.files() == set()


def test_missing_file_is_not_retried(site, refused, pauses):
    assert "the server answers 404 Not Found" in refused(retries=2)
    assert len(site.requests) == 1
    assert pauses == []


def test_next_archive_is_tried(site, tiny, packed, caplog, make_bar):
    again = replace(tiny.archives[0], file="antelope.zip")
    site.serve({"body": packed}, name="antelope.zip")
    bar = make_bar()
    assert models.fetch(replace(tiny, archives=(*tiny.archives, again)), progress=bar) == site.home / MEMBER
    assert [path for path, _ in site.requests] == [f"/{ARCHIVE}", "/antelope.zip"]
    assert "404" in caplog.text
    assert "trying antelope.zip" in caplog.text
    assert bar.closed == 1
    assert site.files() == {MEMBER}


def test_temporary_failure_is_retried(site, tiny, packed, model_bytes, pauses):
    site.serve({"body": b"", "status": 503}, {"body": b"", "status": 429}, {"body": packed})
    assert models.fetch(tiny).read_bytes() == model_bytes
    assert pauses == [1, 2]


def test_lasting_failure_is_reported_after_all_retries(site, refused, pauses):
    site.serve({"body": b"", "status": 503})
    assert "the server answers 503" in refused(retries=2)
    assert pauses == [1, 2]


def test_refused_connection(site, tiny, monkeypatch, refused, caplog):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        site.address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv(models.MIRROR_VARIABLE, site.address)
        again = replace(tiny.archives[0], file="antelope.zip")
        package = models.Package("not-installed-anywhere", "1.0", "x.onnx")
        message = refused(replace(tiny, archives=(*tiny.archives, again), packages=(package,)))
    assert "refused" in message
    assert "trying" not in caplog.text
    assert message.endswith(f"to {site.home}, or pip install not-installed-anywhere==1.0")
    assert site.files() == set()


def test_no_such_host(site, monkeypatch, refused):
    def unknown(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "(name or service not known)" in refused()


def test_timeout(site, packed, monkeypatch, refused):
    monkeypatch.setattr("scrfd_trt._http.TIMEOUT", 0.2)
    hold = Event()
    site.serve({"body": packed, "hold": hold})
    assert "no answer in time" in refused()
    hold.set()
