"""Photographs: found faces in stages, what a person changes, and pictures of the result."""

from __future__ import annotations

import base64
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import overlays
from scrfd_trt import samples
from scrfd_trt._detections import Detections
from scrfd_trt._doubtful import find_dropped
from scrfd_trt._formats import json_faces
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.metadata import read_metadata
from scrfd_trt._image_files.write import is_writable, storable, write_image
from scrfd_trt._looks import MIN_FACE, ROTATIONS
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._studio.items import Corners, History, Item, Operation, Progress
from scrfd_trt._studio.settings import Settings
from scrfd_trt._studio.snippets import photo_code
from scrfd_trt._studio.uploads import Image, jpeg, open_picture, shrink
from scrfd_trt.errors import ImageError, OptionError, ScrfdError
from scrfd_trt.video._selection import upright_landmarks

if TYPE_CHECKING:
    from scrfd_trt._studio.session import Session

DECODED_BYTES = 512 * 2**20  # of decoded photographs of all pages; at least one is kept
SAME_FACE = 0.4  # intersection over union of two finds of one face
MAX_DRAWN = 500
MIN_BOX = 4.0  # sides in pixels of a box that is drawn
PATCH_SIDE, MAX_PATCHES = 1024, 24
"""Longest side of a patch in pixels, and their number; where more changes, the page loads the picture again."""
MAX_PATCHED = 0.5  # share of the picture
NEAR = 32  # pixels by which overlays may reach further than in proportion to the face
MAX_THUMBNAILS = 64
STEPS = ("Looking for faces", "Looking for small and turned faces", "Looking again at doubtful faces")
THUMBNAIL_MARGIN = 0.7  # what a thumbnail of an overlay shows around the face, in sides of its box
Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels


class Face(NamedTuple):
    """A face, detected or drawn."""

    id: int
    box: tuple[float, ...]
    score: float
    landmarks: NDArray[np.float32] | None = None
    dropped: bool = False  # whether a second look doubts it
    drawn: bool = False
    found: bool = True  # by the last look; one that is not stays while a person's choice names it


@dataclass(frozen=True)
class Edits:
    """What a person has changed."""

    choices: Mapping[int, bool] = field(default_factory=dict)  # covered or not, by face
    drawn: tuple[Face, ...] = ()
    replaced: frozenset[int] = frozenset()  # detected faces in whose place a drawn one is


class Decoded:
    """A photograph in memory, and the picture with its faces covered."""

    def __init__(self, frame: ImageFrame) -> None:
        self.frame, self.visible = frame, frame.visible()
        self.covered: Image | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory, with the covered picture."""
        return 2 * self.visible.nbytes + (0 if self.frame.alpha is None else self.frame.pixels.nbytes)


class DecodedPhotos:
    """The photographs that were used last. Thread-safe."""

    def __init__(self, limit: int = DECODED_BYTES) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._kept: OrderedDict[Photo, Decoded] = OrderedDict()

    def get(self, photo: Photo, decode: Callable[[], ImageFrame]) -> Decoded:
        """Return a photograph, decoded if it is not in memory."""
        with self._lock:
            if found := self._kept.get(photo):
                self._kept.move_to_end(photo)
                return found
        with DECODING:
            found = Decoded(decode())
        with self._lock:
            photo._check_open()  # else it would stay after its end
            self._kept[photo] = found
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        return found

    def peek(self, photo: Photo, *, drop: bool = False) -> Decoded | None:
        """Return a photograph if it is in memory; on request, forget it."""
        with self._lock:
            return self._kept.pop(photo, None) if drop else self._kept.get(photo)


DECODING = threading.BoundedSemaphore(2)  # decoding takes several times the memory of what is held afterwards
decoded_photos = DecodedPhotos()


class Photo(Item):
    """A photograph of a page."""

    kind = "photo"

    def __init__(self, session: Session, key: str, name: str, content: bytes, settings: Settings) -> None:
        super().__init__(session, key, name, settings)
        self._file = open_picture(name, content)
        self.size = self._file.size
        self._is_known = False  # whether any look has ended
        self._faces: list[Face] = []
        self._found = Detections.empty(self.size)
        self._has_landmarks = True
        self._next_id = 1
        self._stage, self._search = 0, settings.search
        self._history = History(Edits())
        self._reach: dict[tuple[int, tuple[float, ...]], Box | None] = {}
        self._spread = 0.5  # how far the overlays reach beyond a box, as a share of its longer side
        self._thumbnails: dict[Any, bytes] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the file, which stays in memory."""
        return len(self._file.data)

    @property
    def edits(self) -> Edits:
        """What a person has changed so far."""
        return self._history.now

    # -- searching ---------------------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Search with the next stage: a single look, then small and turned faces, then doubtful ones again.

        Returns whether another stage follows; raises ImageError if the file is damaged.
        """
        with self._lock:
            search, stage = self.settings.search, self._stage
            if self._search != search:
                stage, self._search = 0, search
        self._report("looking", STEPS[stage], stage / len(STEPS))
        image = self._decoded().visible
        threshold, small, turned = search
        detector = self.session.detector
        full = detector._looking(MIN_FACE if small else None, ROTATIONS if turned else ())
        if stage == 0:
            found = detector._looking(None, ()).detect(image, threshold=threshold)
            following = 1 if small or turned else 2
        elif stage == 1:
            found, following = full.detect(image, threshold=threshold), 2
        else:
            with self._lock:
                found = self._found
            following = 3
        dropped = find_dropped(full, image, found) if stage == 2 else np.zeros(len(found), bool)
        with self._lock:
            self._check_open()
            if self._search != self.settings.search:  # the settings have changed meanwhile
                return True
            self._found, self._stage = found, following
            self._take(found, dropped)
            if following == len(STEPS):
                self._report("ready")
            else:
                self._report("looking", STEPS[following], following / len(STEPS))
        return following < len(STEPS)

    def _take(self, found: Detections, dropped: NDArray[np.bool_]) -> None:
        """Replace the detected faces; those that were there keep their ids, and those with a person's choice stay."""
        before = [face for face in self._faces if not face.drawn]
        shared = pairwise_iou(np.array([face.box for face in before], np.float32).reshape(-1, 4), found.boxes)
        ids: dict[int, int] = {}
        for at in np.argsort(-shared, axis=None).tolist() if shared.size else ():
            old, new = divmod(at, len(found))
            if shared[old, new] < SAME_FACE:
                break
            if new not in ids and before[old].id not in ids.values():
                ids[new] = before[old].id
        faces = []
        for row in range(len(found)):
            if row not in ids:
                ids[row], self._next_id = self._next_id, self._next_id + 1
            points = None if found.landmarks is None else found.landmarks[row]
            box = tuple(found.boxes[row].tolist())
            faces.append(Face(ids[row], box, float(found.scores[row]), points, bool(dropped[row])))
        kept = {key for edits in self._history.states for key in (*edits.choices, *edits.replaced)} - set(ids.values())
        self._has_landmarks, self._is_known = found.landmarks is not None, True
        self._faces = faces + [face._replace(found=False) for face in before if face.id in kept]
        self._invalidate()

    def set_settings(self, settings: Settings) -> bool:
        """Replace the settings; return whether the file has to wait for a search again."""
        with self._lock:
            self.settings = settings
            self._invalidate()
            if self.state == "failed" or settings.search == self._search:
                return False
            is_idle = self.state == "ready"
            self.state = "looking"
            self.reviewed = False
            self._stage = 0
            return is_idle

    def _invalidate(self) -> None:
        """Draw the covered picture anew when it is asked for next."""
        self.version += 1 if self._is_known else 0
        self._thumbnails, self._reach, self._spread = {}, {}, 0.5
        if found := decoded_photos.peek(self):
            found.covered = None

    # -- faces and edits ---------------------------------------------------------------------------------------------

    def is_covered(self, face: Face) -> bool:
        """Return whether a face is covered."""
        return self.edits.choices.get(face.id, not face.dropped)

    def _all(self) -> list[Face]:
        edits = self.edits
        known = [face for face in self._faces if face.found or face.id in edits.choices]
        return [face for face in known if face.id not in edits.replaced] + list(edits.drawn)

    def covered(self) -> list[Face]:
        """Return the covered faces, by descending score."""
        return sorted((face for face in self._all() if self.is_covered(face)), key=lambda face: -face.score)

    def detections(self, faces: Sequence[Face], origin: tuple[int, int] = (0, 0), size: Any = None) -> Detections:
        """Return faces as an overlay takes them, in pixels from an origin on."""
        offset = np.array(origin, np.float32)
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4) - np.tile(offset, 2)
        points = None
        if self._has_landmarks:
            upright = upright_landmarks(boxes.astype(np.float64)).astype(np.float32)
            own = [None if face.landmarks is None else face.landmarks - offset for face in faces]
            points = np.array([upright[row] if each is None else each for row, each in enumerate(own)], np.float32)
            points = points.reshape(-1, 5, 2)
        return Detections(boxes, [face.score for face in faces], points, image_size=size or self.size)

    def faces(self) -> dict[str, Any]:
        """Return all faces in reading order."""
        with self._lock:
            return {"version": self.version, "faces": [self._as_dict(face) for face in _reading_order(self._all())]}

    def _as_dict(self, face: Face) -> dict[str, Any]:
        return {
            "id": face.id,
            "box": [round(side, 2) for side in face.box],
            "score": None if face.drawn else round(face.score, 3),
            "origin": "drawn" if face.drawn else "detector",
            "covered": self.is_covered(face),
            "doubtful": self._is_doubtful(face),
        }

    def _is_doubtful(self, face: Face) -> bool:
        return face.dropped and face.id not in self.edits.choices

    def _edit(self, operation: Operation) -> dict[str, Any]:
        """Apply an edit; return the faces and the parts of the covered picture that changed."""
        before = {face.id: face for face in self.covered()}
        self._history.apply(
            operation,
            {
                **dict.fromkeys(("cover", "uncover"), self._chosen),
                "add": self._added,
                "move": self._moved,
                "remove": self._removed,
            },
        )
        after = {face.id: face for face in self.covered()}
        changed = [face for key, face in before.items() if after.get(key) != face]
        changed += [face for key, face in after.items() if before.get(key) != face]
        self.version += 1
        self._thumbnails = {}
        try:
            patches = self._patches(changed)
        except ScrfdError:  # an overlay fails; the answer to the next request of the picture says why
            patches = None
        return {**self.faces(), "patches": patches or [], "redraw": patches is None, **self._history.info()}

    def _known(self, key: int) -> Face:
        face = next((face for face in self._all() if face.id == key), None)
        if face is None:
            raise OptionError("there is no such face any more")
        return face

    def _chosen(self, operation: Operation) -> Edits:
        keys = {face.id for face in self._all()}.intersection(operation.faces)
        if not keys or len(keys) < len(set(operation.faces)):
            raise OptionError("there is no such face any more")
        choices = {**self.edits.choices, **dict.fromkeys(keys, operation.op == "cover")}
        return replace(self.edits, choices=choices)

    def _added(self, operation: Operation) -> Edits:
        if len(self.edits.drawn) >= MAX_DRAWN:
            raise OptionError(f"at most {MAX_DRAWN} faces can be drawn")
        return replace(self.edits, drawn=(*self.edits.drawn, self._drawn(operation.box)))

    def _removed(self, operation: Operation) -> Edits:
        face = self._known(operation.face)
        if not face.drawn:
            raise OptionError("only a drawn face can be removed; leave this one visible")
        return replace(self.edits, drawn=tuple(each for each in self.edits.drawn if each is not face))

    def _moved(self, operation: Operation) -> Edits:
        edits, face, moved = self.edits, self._known(operation.face), self._drawn(operation.box)
        if face.drawn:
            own = (moved._replace(id=face.id) if each is face else each for each in edits.drawn)
            return replace(edits, drawn=tuple(own))
        choices = {**edits.choices, moved.id: self.is_covered(face)}
        return Edits(choices, (*edits.drawn, moved), edits.replaced | {face.id})

    def _drawn(self, box: Corners) -> Face:
        """Return a face that a person drew; raise OptionError if its box lies outside of the picture."""
        x1, y1, x2, y2 = np.clip(box, 0, np.tile(self.size, 2)).round(2).astype(np.float32).tolist()
        if x2 - x1 < MIN_BOX or y2 - y1 < MIN_BOX:
            raise OptionError(f"the box is too small: draw at least {MIN_BOX:g} pixels inside the picture")
        self._next_id += 1
        return Face(self._next_id - 1, (x1, y1, x2, y2), 1.0, drawn=True)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def _decoded(self) -> Decoded:
        self._check_open()
        return decoded_photos.get(self, lambda: next(self._file.frames()))

    def picture(self, *, covered: bool, side: int | None, box: Corners | None = None) -> bytes:
        """Return the photograph, or a part of it, as JPEG; raise ImageError if its faces are not known yet."""
        with self._lock:
            image = self._covered_picture() if covered else self._decoded().visible
        if box is not None:
            x1, y1, x2, y2 = (max(int(side), 0) for side in box)
            image = image[y1:y2, x1:x2]
            if not image.size:
                raise OptionError("the box lies outside of the picture")
        return jpeg(image, side)

    def _covered_picture(self) -> Image:
        if not self._is_known:
            raise ImageError("the faces of this picture are not known yet")
        found = self._decoded()
        if found.covered is None:
            found.covered = self._draw(found)
        return found.covered

    def _draw(self, found: Decoded) -> Image:
        return self.session.overlay(self.settings)(found.visible, self.detections(self.covered()))

    def _patches(self, changed: Sequence[Face]) -> list[dict[str, Any]] | None:
        """Draw the parts of the covered picture again in which faces changed; None if that is most of it."""
        found = self._decoded()
        parts = list(dict.fromkeys(self._reach_of(face) for face in changed))
        areas = [(part[2] - part[0]) * (part[3] - part[1]) for part in parts if part is not None]
        share = sum(areas) / (self.size[0] * self.size[1])
        if None in parts or len(parts) > MAX_PATCHES or share > MAX_PATCHED:
            found.covered = None
            return None
        patches = []
        for part, area in zip(parts, areas, strict=True):
            if part is not None and area:
                x1, y1, x2, y2 = part
                drawn = self._draw_part(found, part)
                if found.covered is not None:
                    found.covered[y1:y2, x1:x2] = drawn
                data = base64.b64encode(jpeg(drawn, PATCH_SIDE, 92)).decode()
                patches.append({"box": [x1, y1, x2, y2], "image": f"data:image/jpeg;base64,{data}"})
        return patches

    def _draw_part(self, found: Decoded, part: Box) -> Image:
        """Return a part of the covered picture, drawn with the faces that reach into it."""
        faces, reached = [], [part]
        for face in self.covered():
            x1, y1, x2, y2 = face.box
            far = 2 * self._spread * max(x2 - x1, y2 - y1) + NEAR
            if _overlap((x1 - far, y1 - far, x2 + far, y2 + far), part):
                box = self._reach_of(face)
                if box is not None and _overlap(box, part):
                    faces.append(face)
                    reached.append(box)
        (x1, y1), (x2, y2) = np.min(reached, axis=0)[:2].tolist(), np.max(reached, axis=0)[2:].tolist()
        canvas = np.ascontiguousarray(found.visible[y1:y2, x1:x2])
        drawn = self.session.overlay(self.settings)(canvas, self.detections(faces, (x1, y1), (x2 - x1, y2 - y1)))
        return drawn[part[1] - y1 : part[3] - y1, part[0] - x1 : part[2] - x1]

    def _reach_of(self, face: Face) -> Box | None:
        """Return the part of the picture that the overlays of a face read and change; None if that may be all of it."""
        key = face.id, face.box
        if key not in self._reach:
            overlay, one = self.session.overlay(self.settings), self.detections([face])
            changed, used = overlay.changed_boxes(one), overlay.used_boxes(one)
            reach: Box | None = None
            if changed is not None and used is not None:
                known = np.concatenate([changed, used]) if len(changed) else np.zeros((1, 4))
                ends = np.floor(known[:, :2].min(axis=0)), np.ceil(known[:, 2:].max(axis=0))
                (x1, y1), (x2, y2) = np.clip(ends, 0, self.size).astype(int).tolist()
                reach = x1, y1, x2, y2
                side = max(face.box[2] - face.box[0], face.box[3] - face.box[1], 1.0)
                self._spread = max(self._spread, float(np.abs(np.array(face.box) - reach).max()) / side)
            self._reach[key] = reach
        return self._reach[key]

    def thumbnail(self, overlay: str | None, side: int) -> bytes:
        """Return a small covered picture, or an overlay on a crop of the best face."""
        with self._lock:
            kept = self._thumbnails.get((overlay, side))
            if kept is None:
                if overlay is None:
                    kept = self.picture(covered=self._is_known, side=side)
                else:
                    kept = jpeg(self._sample_of(overlay, side))
                if len(self._thumbnails) >= MAX_THUMBNAILS:
                    self._thumbnails = {}
                self._thumbnails[overlay, side] = kept
            return kept

    def _sample_of(self, overlay: str, side: int) -> Image:
        """Return a square picture of the best face with an overlay; of a drawn face if there is none."""
        best = max(self._faces, key=lambda face: face.score * (face.box[2] - face.box[0]) ** 0.5, default=None)
        if best is None:
            return drawn_sample(overlay, side)
        return draw_sample(overlay, self._decoded().visible, self.detections([best]), side)

    # -- results -----------------------------------------------------------------------------------------------------

    @property
    def _suffix(self) -> str:
        suffix = Path(self.name).suffix
        return suffix if is_writable(suffix) else ".png"

    def write(self, folder: Path, progress: Progress, *, faces_file: bool) -> list[tuple[str, Path]]:
        """Write the result as the command line does, on request with its faces file; raise ScrfdError if that fails."""
        progress(0, 1, "drawing")
        with self._lock:
            name, faces = self.output_name, self._faces_file()
            frame, drawn = self._decoded().frame, self._draw(self._decoded())
        path = folder / f"result{Path(name).suffix}"
        found = read_metadata(self._file.data, self._file.kind).kept(descriptive=False, location=False)
        color, kept = self._file.color, storable(found, path.suffix)
        with path.open("wb") as file:
            write_image(file, [frame.drawn_on(drawn)], path.suffix, color=color, metadata=kept)
        if not faces_file:
            return [(name, path)]
        path.with_suffix(".jsonl").write_text(faces, encoding="utf-8")
        return [(name, path), (self.faces_name, path.with_suffix(".jsonl"))]

    def write_faces(self, path: Path) -> None:
        """Write the covered faces as ``detect`` does, for ``anonymize --detections``."""
        path.write_text(self._faces_file(), encoding="utf-8")

    def _faces_file(self) -> str:
        with self._lock:
            threshold, small, turned = self.settings.search
            looks = {"min_face": MIN_FACE if small else None, "rotations": ROTATIONS if turned else ()}
            head = {"image": self.name, "threshold": threshold, **{key: each for key, each in looks.items() if each}}
            text = json.dumps({**head, "image_size": self.size})
            return f'{text[:-1]}, "faces": {json_faces(self.detections(self.covered()))}}}\n'

    @property
    def needs_faces_file(self) -> bool:
        """Whether the command line finds other faces than the covered ones."""
        no_command_line = self.settings.mode == "hide" and not self.settings.small_faces
        return self.edits != Edits() or no_command_line

    def code(self) -> tuple[str, str]:
        """Return the command line and the program that make the result."""
        return photo_code(self)

    def _counts(self) -> dict[str, Any]:
        faces = self._all()
        return {"faces": len(faces), "doubts": sum(map(self._is_doubtful, faces)), **self._history.info()}

    def _notes(self) -> list[str]:
        notes = [f"{line[:1].upper()}{line[1:]}." for line in self._file.notes]
        if self._file.count > 1:
            what = "frame" if self._file.is_animation else "page"
            notes.append(f"The file has {self._file.count} {what}s. The studio shows and saves the first.")
        return notes

    def close(self) -> None:
        """Release the pictures."""
        self.closed = True
        decoded_photos.peek(self, drop=True)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _reading_order(faces: Sequence[Face]) -> list[Face]:
    """Return faces line by line; a line has the faces whose middle lies within the height of its first one."""
    left = sorted(faces, key=lambda face: face.box[1] + face.box[3])
    lines: list[list[Face]] = []
    for face in left:
        if lines and face.box[1] + face.box[3] < 2 * lines[-1][0].box[3]:
            lines[-1].append(face)
        else:
            lines.append([face])
    return [face for line in lines for face in sorted(line, key=lambda face: face.box[0])]


@lru_cache(64)
def drawn_sample(overlay: str, side: int) -> Image:
    """Return an overlay on a drawn face."""
    scene = samples.load("group")
    return draw_sample(overlay, scene.image, scene.faces[0:1], side)


def face_crop(image: Image, box: Any, margin: float) -> tuple[Image, tuple[int, int]]:
    """Return a square around a box, with a margin in sides of the box, and its left and top in the image."""
    x1, y1, x2, y2 = box.tolist()
    limits = image.shape[1::-1]
    reach = min((0.5 + margin) * max(x2 - x1, y2 - y1, 8.0), *(each / 2 for each in limits))
    left, top = (
        round(min(max(middle - reach, 0.0), limit - 2 * reach))
        for middle, limit in zip(((x1 + x2) / 2, (y1 + y2) / 2), limits, strict=True)
    )
    return image[top : top + round(2 * reach), left : left + round(2 * reach)], (left, top)


def draw_sample(overlay: str, image: Image, face: Detections, side: int) -> Image:
    """Return a square picture of a face with an overlay, without it if the overlay requires options."""
    crop, (left, top) = face_crop(image, face.boxes[0], THUMBNAIL_MARGIN)
    scale = min(side / max(crop.shape[:2]), 1.0)
    crop = shrink(crop, side) if scale < 1 else np.ascontiguousarray(crop)
    points = None if face.landmarks is None else (face.landmarks - (left, top)) * scale
    boxes = (face.boxes - (left, top, left, top)) * scale
    small = Detections(boxes, face.scores, points, image_size=crop.shape[1::-1])
    try:
        return overlays.create(overlay)(crop, small)
    except ScrfdError:
        if overlay not in overlays.names():
            raise
        return crop
