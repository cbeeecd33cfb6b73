"""What a page holds: its files, their settings, stickers and exports; and the threads that search the files."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2

import overlays
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._studio import settings as choices
from scrfd_trt._studio.clips import Clip
from scrfd_trt._studio.export import Export
from scrfd_trt._studio.items import Item
from scrfd_trt._studio.photos import Photo
from scrfd_trt._studio.settings import Choice, Settings
from scrfd_trt._studio.temporary_files import SessionFiles, TemporaryFolder
from scrfd_trt._studio.uploads import MAX_STICKER_BYTES, is_clip, open_picture, plain_name
from scrfd_trt.errors import ClosedError, ImageError, OptionError, ScrfdError, one_line

HELD_BYTES = 512 * 2**20
"""What a page may hold beyond one file of the largest size."""
PAGES_AT_ONCE = 8  # all pages together hold what this many pages may hold
MAX_FILES = 500
MAX_OVERLAYS_KEPT = 8  # reading a sticker takes seconds
CLIPS = 2  # rank among the files that wait for a search
GRACE_SECONDS = 300.0
"""How long a page may be without its stream of events, as after a lost connection; one that is closed says so."""

_logger = logging.getLogger(__name__)


class Budget:
    """Bytes of uploads that pages may hold: each alone, and all together. Thread-safe."""

    def __init__(self, max_upload: int) -> None:
        self.max_upload = max_upload
        self.per_page = max_upload + HELD_BYTES
        self.total = PAGES_AT_ONCE * self.per_page
        self._held: weakref.WeakKeyDictionary[Session, int] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def hold(self, session: Session, size: int) -> None:
        """Record what a page holds from now on; raise ImageError and record nothing if that is too much."""
        with self._lock:
            before = self._held.get(session, 0)
            if size > before and size > self.per_page:
                raise ImageError(f"this page may hold {self.per_page >> 20} MiB: remove files, or export them first")
            if size > before and sum(self._held.values()) - before + size > self.total:
                raise ImageError("all pages of the studio together hold too many files: close other pages")
            self._held[session] = size


class Searches:
    """Two threads that search files for faces: first looks at photographs, then their other looks, then clips.

    Only one thread takes clips, so that photographs need not wait for the end of one.
    """

    def __init__(self, threads: int = 2) -> None:
        self._waiting: list[tuple[int, int, Item]] = []
        self._numbers, self._free = itertools.count(), threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(number == 0,), name="studio-search", daemon=True)
            for number in range(threads)
        ]

    def add(self, item: Item, number: int | None = None) -> None:
        """Search a file as soon as a thread is free; a file that was looked at keeps its number in the order."""
        with self._free:
            for thread in self._threads:
                if thread.ident is None:
                    thread.start()
            rank = CLIPS if item.kind == "clip" else number is not None
            heapq.heappush(self._waiting, (rank, next(self._numbers) if number is None else number, item))
            self._free.notify_all()

    def _run(self, takes_clips: bool) -> None:
        def is_due() -> bool:
            return self._closed or bool(self._waiting and (takes_clips or self._waiting[0][0] < CLIPS))

        while True:
            with self._free:
                self._free.wait_for(is_due)
                if self._closed:
                    return
                _, number, item = heapq.heappop(self._waiting)
            if search(item):
                self.add(item, number)
            del item

    def forget_closed(self) -> None:
        """Release the files that have been removed meanwhile."""
        with self._free:
            self._waiting = [each for each in self._waiting if not each[2].closed]
            heapq.heapify(self._waiting)

    def close(self) -> None:
        """End the threads after what they do now."""
        with self._free:
            self._closed, self._waiting = True, []
            self._free.notify_all()

    def join(self) -> None:
        """Wait for the end of the threads: one within the model would abort the end of Python."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()


def search(item: Item) -> bool:
    """Take the next look at a file; return whether another one follows."""
    try:
        return bool(item.look())
    except ClosedError:
        return False
    except (ScrfdError, MemoryError, cv2.error) as error:
        item.fail(one_line(error))
    except Exception as error:
        _logger.exception("a file cannot be searched")
        item.fail(f"the search failed: {one_line(error)}")
    return False


class Stream:
    """Events for one connection of a page: the newest state of each file and job, in order."""

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[], tuple[str, Any]]] = {}
        self.wake = asyncio.Event()

    def put(self, key: str, event: Callable[[], tuple[str, Any]]) -> None:
        """Add an event; a later one with the same key replaces it."""
        self.waiting[key] = event
        self.wake.set()

    def take(self) -> list[Callable[[], tuple[str, Any]]]:
        """Return all events that wait; calling them may take a while."""
        waiting, self.waiting = self.waiting, {}
        self.wake.clear()
        return list(waiting.values())


class Session:
    """The state of one open page; :meth:`close` deletes its files. Created on the event loop."""

    def __init__(
        self,
        detector: SCRFDDetector,
        folder: TemporaryFolder,
        model: str,
        budget: Budget,
        searches: Searches | None = None,
    ) -> None:
        self.id = secrets.token_urlsafe(24)
        self.detector, self.model = detector, model
        self.files = SessionFiles(folder)
        self.items: dict[str, Item] = {}
        self.settings = Settings()
        self.jobs: dict[str, Export] = {}
        self._budget, self._searches = budget, searches or Searches(threads=0)
        self._stickers: dict[str, tuple[Path, int]] = {}
        self._used_stickers: set[str] = set()
        self._overlays: dict[str, overlays.Compose] = {}
        self._lock = threading.RLock()
        self._numbers, self._arriving = itertools.count(1), 0  # bytes of uploads that are opened
        self._streams: list[Stream] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alone_since = time.monotonic()

    @property
    def closed(self) -> bool:
        """Whether the page was closed."""
        return self.files.closed

    @property
    def is_over(self) -> bool:
        """Whether the page has had no stream of events for too long."""
        return not self._streams and time.monotonic() - self._alone_since > GRACE_SECONDS

    def add(self, name: str, content: bytes) -> Item:
        """Add an uploaded file; raise ImageError if it is unreadable, or too much."""
        name = plain_name(name)
        if len(self.items) >= MAX_FILES:
            raise ImageError(f"a page holds at most {MAX_FILES} files: remove some first")
        key = str(next(self._numbers))
        with self._holding(len(content)):
            item: Item
            if is_clip(name, content):
                path = self.files.write(f"clip{Path(name).suffix.lower()}", content)  # PyAV reads files
                try:
                    item = Clip(self, key, name, path, self.settings)
                except BaseException:
                    self.files.delete(path)
                    raise
            else:
                item = Photo(self, key, name, content, self.settings)
            with self._lock:
                if self.closed:
                    raise ClosedError("the page was closed")
                self.items[key] = item
        self.changed(item)
        self._searches.add(item)
        return item

    def remove(self, key: str) -> None:
        """Remove a file; do nothing if there is none."""
        with self._lock:
            item = self.items.pop(key, None)
        if item is None:
            return
        item.close()
        self._searches.forget_closed()
        self.hold()

    def hold(self) -> None:
        """Count what this page holds; raise ImageError if that is too much."""
        with self._lock:
            held = sum(item.nbytes for item in self.items.values()) + sum(size for _, size in self._stickers.values())
            self._budget.hold(self, held + self._arriving)

    @contextmanager
    def _holding(self, size: int) -> Iterator[None]:
        """Count an upload that is opened in the block; raise ImageError if it is too much."""
        with self._lock:
            self._arriving += size
        try:
            self.hold()
            yield
        finally:
            with self._lock:
                self._arriving -= size
            with suppress(ImageError):  # the next upload is refused
                self.hold()

    def set_settings(self, settings: Settings, items: Iterable[Item]) -> None:
        """Set the settings of files, and of those that are added later.

        Raises ScrfdError if an overlay refuses its options.
        """
        self.overlay(settings)
        self.settings = settings
        for item in items:
            if item.set_settings(settings):
                self._searches.add(item)
            self.changed(item)
        self._delete_stickers()

    def _delete_stickers(self) -> None:
        """Delete the stickers that settings named, and name no more."""
        named = {
            value
            for settings in (self.settings, *(item.settings for item in list(self.items.values())))
            for choice in settings.overlays
            for value in choice.options.values()
            if isinstance(value, str)
        }
        with self._lock:
            paths = [self._stickers.pop(key)[0] for key in self._used_stickers - named]
            self._used_stickers = named & self._stickers.keys()
        for path in paths:
            self.files.delete(path)
        self.hold()

    def overlay(self, settings: Settings) -> overlays.Compose:
        """Return the overlays of settings; raise ScrfdError if one refuses its options."""
        key = settings.model_dump_json(include={"mode", "overlays"})
        made = self._overlays.get(key)
        if made is None:
            made = choices.compose(settings, self.sticker)
            with self._lock:
                while len(self._overlays) >= MAX_OVERLAYS_KEPT:
                    del self._overlays[next(iter(self._overlays))]
                self._overlays[key] = made
        return made

    def check(self, choice: Choice) -> list[str]:
        """Return an overlay's warnings; raise ScrfdError if it refuses its options."""
        return choices.warnings(overlays.Compose(choices.create(choice, self.sticker)))

    def sticker(self, key: str) -> Path:
        """Return the file of a sticker; raise OptionError if there is none."""
        found = self._stickers.get(key)
        if found is None:
            raise OptionError("this picture was not uploaded: choose a file")
        return found[0]

    def store_sticker(self, name: str, content: bytes) -> str:
        """Store a picture that an option names; return its id. Raise ImageError if it is none, or too large."""
        label = repr(name[:60])
        if len(content) > MAX_STICKER_BYTES:
            raise ImageError(f"{label} has more than {MAX_STICKER_BYTES // 2**20} MiB: use a smaller one")
        open_picture(label, content)
        key = secrets.token_urlsafe(12)
        with self._holding(len(content)):
            path = self.files.write(plain_name(name), content)
            with self._lock:
                self._stickers[key] = path, len(content)
        return key

    def layers(self, settings: Settings) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the overlays of settings with their options, for command lines and programs."""
        named = partial(choices.options, sticker=lambda key: Path(self.sticker(key).name))
        return [(choice.name, named(choice)) for choice in settings.overlays]

    def export(self, items: Sequence[Item], *, faces_files: bool) -> Export:
        """Begin to write the results of files; raise OptionError if another export is running."""
        with self._lock:
            if any(job.state == "running" for job in self.jobs.values()):
                raise OptionError("another export is running: wait for it, or cancel it")
            for job in self.jobs.values():
                job.close()
            job = Export(items, self.files, self._announce, faces_files=faces_files)
            self.jobs = {job.id: job}
        job.start()
        return job

    def cancel(self, key: str) -> None:
        """Stop an export; do nothing if there is none."""
        if job := self.jobs.get(key):
            job.cancel()

    def take(self, key: str) -> Export | None:
        """Return the finished export that has this download key, once."""
        return next((job for job in self.jobs.values() if job.take(key)), None)

    def changed(self, item: Item) -> None:
        """Announce that a file has changed; from any thread."""
        self._emit(f"item {item.id}", partial(_event, "item", item))

    def _announce(self, job: Export) -> None:
        self._emit(f"job {job.id}", partial(_event, "job", job))

    def _emit(self, key: str, event: Callable[[], tuple[str, Any]]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._put, key, event)

    def _put(self, key: str, event: Callable[[], tuple[str, Any]]) -> None:
        for stream in self._streams:
            stream.put(key, event)

    def listen(self) -> Stream:
        """Return a new stream of events, which begins with the state of all files and jobs."""
        self._loop = asyncio.get_running_loop()
        stream = Stream()
        for item in self.items.values():
            stream.put(f"item {item.id}", partial(_event, "item", item))
        for job in self.jobs.values():
            stream.put(f"job {job.id}", partial(_event, "job", job))
        if self.closed:
            stream.put("bye", _bye)
        self._streams.append(stream)
        return stream

    def leave(self, stream: Stream) -> None:
        """End a stream of events."""
        self._streams.remove(stream)
        self._alone_since = time.monotonic()

    def close(self) -> None:
        """Delete all files and release the pictures; may be called twice."""
        with self._lock:
            self.files.close()
            items, self.items = list(self.items.values()), {}
            self._stickers, self._used_stickers, self._overlays = {}, set(), {}
        for item in items:
            item.close()
        for job in self.jobs.values():
            job.close()
        self._searches.forget_closed()
        self.hold()
        for stream in self._streams:
            stream.put("bye", _bye)


def _bye() -> tuple[str, Any]:
    return "bye", {}


def _event(name: str, state: Item | Export) -> tuple[str, Any]:
    return name, state.info()
