"""Cover the faces of piles of pictures and videos, and write the copies into another place."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from scrfd_trt._cli import outputs
from scrfd_trt._cli.batch import Tally
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.options import CopySettings
from scrfd_trt._cli.overlay_files import CopyJob
from scrfd_trt._cli.video_copies import copying_elsewhere
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._files import temporary_folder
from scrfd_trt._jobs.decoders import ImageSettings
from scrfd_trt._jobs.images import PILE_BATCH
from scrfd_trt._jobs.stages import grouped, mapped, prefetched
from scrfd_trt._parquet import encodable, load_pyarrow
from scrfd_trt.distributed._parts import DEFAULT, READERS, Output, Part, PartResult, read_part
from scrfd_trt.distributed._stores import fetch, is_uri, shown_name
from scrfd_trt.errors import OptionError, OutputError, ScrfdError
from scrfd_trt.video._canvas import OverlayFunction

GROUP = 256  # files that are fetched, covered and sent together


class _Group(NamedTuple):
    """Files on this machine; those of a store are in ``folder``."""

    sources: list[Source]
    folder: Path


@dataclass(frozen=True)
class PileCopies:
    """Writes the covered copy of each file of a part, or the reason why there is none; what fails is not copied."""

    create: Callable[[], OverlayFunction]
    opener: Callable[..., SCRFDDetector]
    settings: CopySettings
    quality: int
    output: Output
    root: str
    """The source, below which names are relative."""

    def run(self, parts: Iterable[Part], advance: Callable[[int], None]) -> Generator[PartResult, None, None]:
        """Yield the results of parts: tables of the images and videos with their copies, and of the failures."""
        draw = self.create()
        with temporary_folder() as folder:
            detector: SCRFDDetector | None = None
            try:
                for part in parts:
                    detector = detector or self.opener(max_batch=self.settings.images.batch or PILE_BATCH)
                    yield self._copy(part, detector, draw, folder, advance)
            finally:
                if detector is not None:
                    detector.close()

    def _copy(
        self, part: Part, detector: SCRFDDetector, draw: OverlayFunction, folder: Path, advance: Callable[[int], None]
    ) -> PartResult:
        copies: list[tuple[str, str]] = []
        failures: list[tuple[str, str]] = []
        tally = Tally()
        with prefetched(self._groups(part, folder), 1) as groups:
            for group in groups:
                root = Path(self.output.place.path) if self._is_here else group.folder
                targets = self._targets(group, root / "copies")
                job = CopyJob(draw, self.settings, targets, self.quality, True, tally, None, None)
                elsewhere = partial(copying_elsewhere, self.create, self.settings, self.opener)
                job.run(group.sources, None, detector, None, elsewhere)
                failed = dict(tally.failures)
                tally.failures.clear()
                done = {source: path for source, path in targets.items() if source.name not in failed}
                send = partial(self._send, root / "copies")
                with mapped(send, done.items(), workers=READERS, ahead=2 * READERS) as sent:
                    copies += sent
                failures += [(str(name), reason) for name, reason in failed.items()]
                shutil.rmtree(group.folder, ignore_errors=True)
                advance(len(group.sources))
        table, errors = _table(["image", "copy"], copies), _table(["image", "error"], failures)
        return PartResult(part, table, errors, len(tally.spherical), tally.faces)

    def _groups(self, part: Part, folder: Path) -> Iterator[_Group]:
        for number, uris in zip(count(), grouped(part.uris, GROUP), strict=False):
            place = folder / f"{part.index}-{number}"
            place.mkdir()
            fetched = partial(self._fetch, place)
            with mapped(fetched, enumerate(uris), workers=READERS, ahead=2 * READERS) as sources:
                yield _Group(list(sources), place)

    def _fetch(self, place: Path, numbered: tuple[int, str]) -> Source:
        """Return the file of an address, which is in a folder if it is not on this machine."""
        number, uri = numbered
        relative, is_row = Path(relative_name(uri, self.root)), "#row=" in uri
        if is_uri(uri) or is_row:
            source = Source(place / f"{number}{relative.suffix}", relative, address=shown_name(uri))
        else:
            source = Source(Path(uri), relative)
        try:
            if is_row:
                (picture,) = read_part(Part(0, [uri]))
                source.path.write_bytes(picture.read())  # type: ignore[arg-type]  # rows have no paths
            elif is_uri(uri):
                fetch(uri, source.path)
        except ScrfdError as error:
            source.problem = error.reason
        name = outputs.copy_name(source)
        if name != relative and not is_row:  # a.mts beside a.mp4
            source.relative_path = distinct(name.with_stem(relative.name), uri)
        return source

    @property
    def _is_here(self) -> bool:
        """Whether the copies belong on this machine, and not into a store."""
        return self.output.place.files is None

    def _targets(self, group: _Group, folder: Path) -> dict[Source, Path]:
        """Choose the paths of the copies below a folder."""
        with suppress(OptionError, OutputError):  # of all files of the group, which have the problem then
            return outputs.plan_folder(group.sources, folder, overwrite=True)
        return {}

    def _send(self, folder: Path, item: tuple[Source, Path]) -> tuple[str, str]:
        """Return the names of a file and of its copy, which is sent to where it belongs."""
        source, path = item
        name = path.relative_to(folder).as_posix()
        if not self._is_here:
            self.output.place.join(f"copies/{name}").write(path)
        return str(source.name), name


@dataclass(frozen=True)
class CopyParts:
    """Opens what copies, and then writes the copies of each part; returns its spherical pictures."""

    copies: PileCopies
    settings: ImageSettings = DEFAULT

    def __call__(self, device: str) -> Callable[[Part, Any], int]:
        parts = deque[Part]()
        copies = replace(self.copies, opener=partial(self.copies.opener, device=device))
        results = copies.run(iter(parts.popleft, None), lambda _count: None)

        def work(part: Part, _pictures: Any) -> int:
            parts.append(part)
            result = next(results)
            copies.output.write_part(result.part, result.table, result.errors, result.faces)
            return result.spherical

        return work


def relative_name(uri: str, root: str) -> str:
    """Return the name of a copy: the path below the source, or all of a listed one; each address has its own."""
    path, start = shown_name(uri), shown_name(root).rstrip("/")
    if is_inside := path.startswith(f"{start}/"):
        path = path[len(start) + 1 :]
    elif is_uri(uri):
        path = re.sub("://([^/]*@)?", "/", path, count=1)
    path = re.sub(r"#row=(\d+)$", r"/\1", unquote(path) if is_uri(uri) else path)
    name = "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    is_exact = name == (path if is_inside else path.lstrip("/")) and (is_inside or shown_name(uri) == uri)
    return name if is_exact else distinct(Path(name), uri).as_posix()


def distinct(path: Path, uri: str) -> Path:
    """Return a path that another address does not get."""
    digest = hashlib.blake2b(uri.encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()
    return path.with_name(f"{path.stem}-{digest}{path.suffix}")


def _table(names: Sequence[str], rows: Iterable[tuple[str, str]]) -> Any:
    pa = load_pyarrow()
    columns = list(zip(*rows, strict=True)) or [(), ()]
    texts = [pa.array(map(encodable, column), pa.string()) for column in columns]
    return pa.table(dict(zip(names, texts, strict=True)))
