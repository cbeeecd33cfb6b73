"""What a page holds: limits, stickers and exports, without a web server."""

from __future__ import annotations

import gc
import io
import queue
import threading
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette")

from scrfd_trt._studio import session as module
from scrfd_trt._studio.session import Budget, Searches, Session
from scrfd_trt._studio.settings import Choice, Settings, listed
from scrfd_trt._studio.temporary_files import TemporaryFolder
from scrfd_trt._studio.uploads import MAX_STICKER_BYTES
from scrfd_trt.errors import ClosedError, ImageError, OptionError

pytestmark = pytest.mark.slow
PICTURE = cv2.imencode(".png", np.full((40, 60, 3), 90, np.uint8))[1].tobytes()
Look = Callable[[Any], Any]


def add(session: Session, *names: str) -> list[Any]:
    return [session.add(name, PICTURE) for name in names]


def content(job: Any) -> bytes:
    ((_, path),) = job.results
    data: bytes = path.read_bytes()
    job.delete()
    return data


def test_exports(session: Session, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = [look(item) for item in add(session, "a.png", "A.png", "../b.png")]
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.run)
    job = session.export(list(session.items.values()), faces_files=True)
    assert (job.state, job.text, job.info()["done"]) == ("done", "", 3.0)
    assert session.take("x") is None
    assert session.take(job.info()["download"].rpartition("/")[2]) is job
    with zipfile.ZipFile(io.BytesIO(content(job))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            *("a_anonymized.png", "a.faces.jsonl", "A_anonymized_2.png", "A.faces_2.jsonl"),
            *("b_anonymized.png", "b.faces.jsonl"),
        ]
    assert not job.results, "the files are deleted"
    single = session.export([first], faces_files=False)
    assert (single.results[0][0], content(single)[:4]) == ("a_anonymized.png", b"\x89PNG")
    others[0].fail("it is broken")
    partly = session.export(list(session.items.values()), faces_files=False)
    assert (partly.state, partly.results[0][0]) == ("done", "anonymized.zip")
    assert partly.text == "1 of 3 files are missing: A.png: it is broken"
    failed = session.export([others[0]], faces_files=False)
    assert (failed.state, failed.info()["download"], failed.text) == ("failed", None, "A.png: it is broken")


def test_exports_are_cancelled_and_end_with_the_page(session: Session, folder: TemporaryFolder) -> None:
    add(session, "a.png")  # it is never searched, so the export waits
    job = session.export(list(session.items.values()), faces_files=False)
    with pytest.raises(OptionError, match="another export is running"):
        session.export(list(session.items.values()), faces_files=False)
    job.cancel()
    for _ in range(100):
        if job.state != "running":
            break
        threading.Event().wait(0.02)
    assert (job.state, job.results, job.info()["download"]) == ("cancelled", [], None)


def test_file_that_is_removed_is_left_out_of_an_export(session: Session, look: Look) -> None:
    look(add(session, "a.png")[0])
    (never,) = add(session, "b.png")
    job = session.export(list(session.items.values()), faces_files=False)
    session.remove(never.id)
    job._thread.join(5)
    assert (job.state, job.text) == ("done", "1 of 2 files are missing: b.png: the file was removed")
    assert job.results[0][0] == "a_anonymized.png"


def test_budget_limits_pages_alone_and_together(
    session: Session, folder: TemporaryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    monkeypatch.setattr(module, "PAGES_AT_ONCE", 2)
    budget = Budget(2 * len(PICTURE))
    pages = [Session(session.detector, folder, "", budget) for _ in range(3)]
    for page in pages[:2]:
        add(page, "a.png", "b.png")
        with pytest.raises(ImageError, match="this page may hold"):
            add(page, "c.png")
        assert len(page.items) == 2
    with pytest.raises(ImageError, match="all pages of the studio together"):
        add(pages[2], "a.png")
    pages[0].remove("1")
    add(pages[2], "a.png")
    pages[1].close()
    add(pages[2], "b.png")


def test_stickers_are_checked(session: Session) -> None:
    with pytest.raises(ImageError, match="more than 16 MiB"):
        session.store_sticker("a.png", bytes(MAX_STICKER_BYTES + 1))
    with pytest.raises(ImageError, match="not a supported"):
        session.store_sticker("a.png", b"words")
    with pytest.raises(OptionError, match="not uploaded"):
        session.check(Choice(name="image", options={"picture": "/etc/passwd"}))
    assert session.check(Choice(name="blur", options={"opacity": 0.4}))[0].startswith("Opacity 0.4")


def test_stickers_are_deleted_once_no_settings_name_them_any_more(session: Session) -> None:
    key = session.store_sticker("a.png", cv2.imencode(".png", np.full((9, 9, 4), 200, np.uint8))[1].tobytes())
    path = session.sticker(key)
    session.set_settings(Settings(), [])
    assert path.exists(), "settings that name it are on their way"
    session.set_settings(Settings(mode="fun", overlays=(Choice(name="image", options={"picture": key}),)), [])
    session.set_settings(Settings(), [])
    assert not path.exists()
    with pytest.raises(OptionError, match="not uploaded"):
        session.sticker(key)


def test_closed_page_has_no_files_and_is_freed(session: Session, folder: TemporaryFolder) -> None:
    page = Session(session.detector, folder, "", Budget(1 << 20))
    add(page, "a.png")
    page.store_sticker("a.png", PICTURE)
    path = page.files.new_folder()
    page.close()
    page.close()
    assert not path.exists()
    with pytest.raises(ClosedError):
        add(page, "b.png")
    with pytest.raises(ClosedError):
        page.files.new_folder()
    gone = weakref.ref(page)
    del page
    gc.collect()
    assert gone() is None


def test_files_of_closed_page_wait_for_no_search(session: Session, folder: TemporaryFolder) -> None:
    searches = Searches(threads=0)
    page = Session(session.detector, folder, "", Budget(1 << 20), searches)
    add(page, "a.png", "b.png")
    page.remove("1")
    assert [item.name for _, _, item in searches._waiting] == ["b.png"]
    page.close()
    assert not searches._waiting


class Waiting:
    """A file that is looked at three times, a clip once, as soon as an event is set."""

    closed = False

    def __init__(self, name: str, begin: threading.Event, order: queue.Queue[tuple[str, int]]) -> None:
        self.name, self.kind = name, "clip" if name == "clip" else "photo"
        self.begin, self.order, self.looks = begin, order, 0

    def look(self) -> bool:
        assert self.begin.wait(5)
        self.looks += 1
        self.order.put((self.name, self.looks))
        return self.kind == "photo" and self.looks < 3


def test_first_looks_at_photographs_come_first_then_their_others_then_clips() -> None:
    order: queue.Queue[tuple[str, int]] = queue.Queue()
    begin, searches = threading.Event(), Searches(threads=1)
    for name in ("a", "clip", "b"):
        searches.add(Waiting(name, begin, order))  # type: ignore[arg-type]
    begin.set()
    found = [order.get(timeout=5) for _ in range(7)]
    searches.close()
    assert found == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3), ("clip", 1)]


def test_photographs_do_not_wait_for_clips() -> None:
    order: queue.Queue[tuple[str, int]] = queue.Queue()
    held, free, searches = threading.Event(), threading.Event(), Searches()
    free.set()
    for name, begin in (("clip", held), ("clip", held), ("a", free)):
        searches.add(Waiting(name, begin, order))  # type: ignore[arg-type]
    assert [order.get(timeout=5) for _ in range(3)] == [("a", look) for look in (1, 2, 3)]
    held.set()
    assert [order.get(timeout=5) for _ in range(2)] == [("clip", 1)] * 2
    searches.close()


def test_overlays_are_listed_with_their_options() -> None:
    found = {overlay["name"]: overlay for overlay in listed()}
    assert found["blur"]["covers"]
    assert not found["skull"]["covers"]
    options = {option["name"]: option for option in found["blur"]["options"]}
    assert (options["opacity"]["min"], options["opacity"]["max"], options["opacity"]["default"]) == (0, 1, 1)
    assert options["shape"]["choices"] == ["ellipse", "rectangle", "aligned"]
    assert not [option for option in found["skull"]["options"] if option["name"] == "color"], "all pictures are BGR"


def test_broken_overlays_are_listed_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "torn-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[scrfd_trt.overlays]\ntorn = torn_plugin:Torn\n")
    monkeypatch.syspath_prepend(tmp_path)
    listed.cache_clear()
    (torn,) = [overlay for overlay in listed() if overlay["name"] == "torn"]
    listed.cache_clear()
    assert "No module named 'torn_plugin'" in torn["error"]
    assert Settings.parse({}).score == 0.3
