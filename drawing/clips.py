"""Clips and photographs whose faces are known, to measure what is found and covered.

``python drawing/clips.py NAME... FOLDER`` writes them with their truth; ``all`` names all.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.backdrop import BACKDROPS
from drawing.clutter import KINDS, thing
from drawing.figure import Layer
from drawing.looks import Look, generator
from drawing.placing import combine, draw_person, place_layer, truth

RATE = 25
Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Size = tuple[int, int]
Place = tuple[float, float, float, float]
"""Centre, height and angle of a face."""


class Face(NamedTuple):
    """A face of a frame: its person, its box in pixels, and the share of it that is visible, 0 to 1."""

    track: int
    box: tuple[float, float, float, float]
    shown: float


class Truth(NamedTuple):
    """The faces of each frame of a clip, or of a picture's only one; ``cuts`` are the first frames of scenes."""

    name: str
    size: Size
    rate: float
    frames: list[list[Face]]
    cuts: list[int]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        frames = [
            [
                {"track": face.track, "box": [round(v, 2) for v in face.box], "shown": round(face.shown, 3)}
                for face in faces
            ]
            for faces in self.frames
        ]
        path.write_text(json.dumps({**self._asdict(), "frames": frames}))

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what :meth:`save` wrote."""
        data = json.loads(path.read_text())
        frames = [
            [Face(face["track"], tuple(face["box"]), face["shown"]) for face in faces] for faces in data["frames"]
        ]
        return cls(data["name"], tuple(data["size"]), data["rate"], frames, data["cuts"])


class Actor(NamedTuple):
    """A person, and where it is after so many seconds."""

    track: int
    look: Look
    way: Callable[[float], Place]


class Thing(NamedTuple):
    """A piece of clutter, and its centre, height and angle after so many seconds."""

    layer: Layer
    way: Callable[[float], Place]


class World(NamedTuple):
    """What a camera looks at."""

    backdrop: Image
    actors: Sequence[Actor] = ()
    things: Sequence[Thing] = ()
    known: Sequence[Face] = ()
    """Faces that the backdrop shows."""


class Shot(NamedTuple):
    """A world seen by a camera, which maps it to the frame after so many seconds; ``shutter`` blurs its motion."""

    world: World
    camera: Callable[[float], Matrix] | None = None
    shutter: float = 0.0


def view(
    zoom: float = 1.0, degrees: float = 0.0, about: tuple[float, float] = (0, 0), at: tuple[float, float] = (0, 0)
) -> Matrix:
    """Return the camera that shows the point ``about`` at ``at``."""
    c, s = zoom * math.cos(math.radians(degrees)), zoom * math.sin(math.radians(degrees))
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack([turn, np.asarray(at) - turn @ about])


def render(shot: Shot, size: Size, t: float) -> tuple[Image, list[Face]]:
    """Return what the camera sees after ``t`` seconds, and its faces."""
    world = shot.world
    camera = view() if shot.camera is None else shot.camera(t)
    if shot.camera is None and world.backdrop.shape[1::-1] == size:
        image = world.backdrop.copy()
    else:
        warped = cv2.warpAffine(world.backdrop, _pixels(camera), size, borderMode=cv2.BORDER_REFLECT)
        image = np.asarray(warped, np.uint8)
    for item in world.things:
        x, y, height, angle = item.way(t)
        place_layer(image, item.layer, combine(camera, view(height / 2, angle, at=(x, y))))
    spots = sorted(((actor.way(t), actor) for actor in world.actors), key=lambda pair: pair[0][2])
    for (x, y, height, angle), actor in spots:
        draw_person(image, ((x, y), height, angle), actor.look, camera=camera)
    if shot.shutter and shot.camera is not None:
        image = _blur(image, shot.camera, t, shot.shutter)
    faces = list(world.known)
    for number, ((x, y, height, angle), actor) in enumerate(spots):
        box = truth((x, y), height, angle, actor.look).box
        faces.append(Face(actor.track, box, _shown(spots, number)))
    seen = [_through(camera, face, size) for face in faces]
    return image, [face for face in seen if face.shown > 0.0]


def _pixels(camera: Matrix) -> Matrix:
    """Return the map between centres of pixels, which OpenCV counts as whole numbers."""
    return combine(view(at=(-0.5, -0.5)), combine(camera, view(at=(0.5, 0.5))))


def _blur(image: Image, camera: Callable[[float], Matrix], t: float, shutter: float) -> Image:
    """Blur a frame by the camera's motion around its time: the mean of the frame seen from where the camera is."""
    size = image.shape[1::-1]
    back = np.linalg.inv(np.vstack([camera(t), (0, 0, 1)]))[:2]
    most = combine(camera(t - shutter / 2.0), back)
    corners = np.array([(0, 0), (size[0], 0), (0, size[1]), size])
    reach = float(np.abs(corners @ most[:, :2].T + most[:, 2] - corners).max())
    steps = min(24, math.ceil(reach / 2.0))
    if steps < 2:
        return image
    total = np.zeros(image.shape, np.float32)
    for step in range(steps):
        move = combine(camera(t + (step / (steps - 1) - 0.5) * shutter), back)
        total += cv2.warpAffine(image, _pixels(move), size, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.rint(total / np.float32(steps)), np.uint8)


_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_POINTS = np.concatenate(
    [r * np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)]) for r in (0.25, 0.5, 0.7, 0.86, 0.97)]
)
"""Points of a unit disc, each for about the same area."""


def _ellipse(box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.asarray(_POINTS * ((x2 - x1) / 2, (y2 - y1) / 2) + ((x1 + x2) / 2, (y1 + y2) / 2))


def _shown(spots: Sequence[tuple[Place, Actor]], number: int) -> float:
    """Return the share of a face that no nearer head or body hides."""
    (x, y, height, angle), actor = spots[number]
    points, hidden = _ellipse(truth((x, y), height, angle, actor.look).box), np.zeros(len(_POINTS), bool)
    for (ox, oy, tall, _), _ in spots[number + 1 :]:
        unit = tall / 2.0
        if abs(ox - x) > 2.0 * unit + height or oy - 1.5 * unit > y + height:
            continue
        aside, down = np.abs(points[:, 0] - ox) / unit, (points[:, 1] - oy) / unit
        hidden |= np.hypot(aside / 0.95, (down + 0.2) / 1.25) < 1.0
        hidden |= (aside < np.clip(0.6 + 2.0 * (down - 1.4), 0.6, 2.0)) & (down > 0.5)
    return float(1.0 - hidden.mean())


def _through(camera: Matrix, face: Face, size: Size) -> Face:
    """Return a face of the world as seen by the camera: the box of its ellipse."""
    x1, y1, x2, y2 = face.box
    center = camera[:, :2] @ ((x1 + x2) / 2, (y1 + y2) / 2) + camera[:, 2]
    half = np.hypot(*(camera[:, :2] * ((x2 - x1) / 2, (y2 - y1) / 2)).T)
    points = _ellipse(face.box) @ camera[:, :2].T + camera[:, 2]
    inside = float(((points >= 0) & (points < size)).all(1).mean())
    (left, top), (right, bottom) = (center - half).tolist(), (center + half).tolist()
    return Face(face.track, (left, top, right, bottom), face.shown * inside)


def _still(place: Place) -> Callable[[float], Place]:
    return lambda _: place


def _walk(place: Place, speed: float, phase: float, width: float) -> Callable[[float], Place]:
    """Walk to and fro, with steps."""
    x, y, height, _ = place

    def way(t: float) -> Place:
        along = (x + speed * t) % (2 * width)
        bob = 0.04 * height * abs(math.sin(5.0 * t + phase))
        return min(along, 2 * width - along), y - bob, height, 4.0 * math.sin(2.0 * t + phase)

    return way


class Layout(NamedTuple):
    """Where people stand: the line of the farthest, how far those nearer are below it in heights, and the spread."""

    horizon: float = 0.3
    slope: float = 1.2
    spread: float = 0.4


PLAIN = Layout()


def scatter(size: Size, heights: Sequence[float], seed: int, layout: Layout) -> list[Place]:
    """Return a place for each height, the largest first, such that no face hides another."""
    rng = generator(seed, 70)
    places: list[Place] = []
    spots: list[tuple[Place, Actor]] = []
    look = Look()
    for height in sorted(heights, reverse=True):
        for _ in range(2000):
            x, y, lean = (float(rng.random()) for _ in range(3))
            x = 0.6 * height + x * (size[0] - 1.2 * height)
            y = (layout.horizon + y * layout.spread) * size[1] + layout.slope * height
            y = min(y, size[1] - 0.6 * height)
            place = (x, max(y, 0.9 * height), height, 16.0 * (lean - 0.5))
            near = [(place, Actor(0, look, _still(place))), *spots]
            apart = all(math.hypot(x - o[0], y - o[1]) > 0.65 * (height + o[2]) for o in places)
            if apart and _shown(near, 0) == 1.0:
                break
        else:
            raise ValueError(f"a face of {height:.0f} pixels has no place")
        places.append(place)
        spots.insert(0, near[0])
    return places


@lru_cache(maxsize=4)
def _backdrop(name: str, size: Size, seed: int) -> Image:
    return BACKDROPS[name](size, seed)


def world(
    size: Size,
    heights: Sequence[float],
    seed: int,
    *,
    backdrop: str = "park",
    clutter: int = 0,
    walk: float = 0.0,
    layout: Layout = PLAIN,
) -> World:
    """Return a world with people, and clutter behind them; ``walk`` is their speed in face heights a second."""
    rng = generator(seed, 71)
    plain = {"glasses": False, "fringe": False}
    actors = []
    for number, place in enumerate(scatter(size, heights, seed, layout)):
        look = Look.random(seed * 1000 + number, **(plain if place[2] < 60 else {}))
        speed = walk * place[2] * (2.0 * float(rng.random()) - 1.0)
        way = _walk(place, speed, 6.3 * float(rng.random()), size[0]) if walk else _still(place)
        actors.append(Actor(number + 1, look, way))
    things = []
    for number in range(clutter):
        kind = list(KINDS)[number % len(KINDS)]
        large = kind in {"bush", "wheel", "knot"}
        tall = size[1] * (0.10 + 0.14 * float(rng.random())) * (2.5 if large else 1.0)
        x, y = size[0] * float(rng.random()), size[1] * (0.3 + 0.6 * float(rng.random()))
        sway, phase = (0.25 * tall if kind == "hand" else 0.0), 6.3 * float(rng.random())
        things.append((tall, Thing(thing(kind, seed * 100 + number), _sway((x, y, tall), sway, phase))))
    things.sort(key=lambda pair: -pair[0])
    return World(_backdrop(backdrop, size, seed), actors, [item for _, item in things])


def _sway(place: tuple[float, float, float], reach: float, phase: float) -> Callable[[float], Place]:
    x, y, tall = place
    return lambda t: (x + reach * math.sin(4.0 * t + phase), y, tall, 60.0 * reach / tall * math.sin(4.0 * t + phase))


Camera = Callable[[float], Matrix]
Shots = Callable[[Size, int], list[Shot]]
Operator = Callable[[Size, int, World], Camera]
"""Returns the motion of a camera for a size, a seed and a world."""


def _shake(much: float) -> Operator:
    """Hold the camera in the hand: slow drift, tremor and steps."""

    def operate(size: Size, seed: int, _: World) -> Camera:
        rng, (w, h) = generator(seed, 72), size
        waves = [
            (6.3 * f, 6.3 * float(rng.random()), 6.3 * float(rng.random()), much * a)
            for f, a in ((0.4, 3.0), (1.1, 1.2), (2.3, 0.7), (5.5, 0.25))
        ]

        def camera(t: float) -> Matrix:
            x = sum(a * math.sin(f * t + p) for f, p, _, a in waves) * 0.01 * w
            y = sum(a * math.sin(f * t + q) for f, _, q, a in waves) * 0.01 * w
            turn = sum(0.6 * a * math.sin(f * t + p + q) for f, p, q, a in waves)
            return view(1.12, turn, (w / 2, h / 2), (w / 2 + x, h / 2 + y))

        return camera

    return operate


def _zoom(factor: float, seconds: float) -> Operator:
    """Zoom in on the middle of the people, hold for a second, zoom out, again and again."""

    def operate(_size: Size, _seed: int, seen: World) -> Camera:
        x, y = np.median([actor.way(0.0)[:2] for actor in seen.actors], axis=0).tolist()

        def camera(t: float) -> Matrix:
            phase = t % 2.0
            share = _ease(phase / seconds if phase < 1.0 else 1.0 - (phase - 1.0) / seconds)
            return view(factor**share, about=(x, y), at=(x, y))

        return camera

    return operate


def _whip(size: Size, _seed: int, _world: World) -> Camera:
    """Whip by a picture's width within 0.24 seconds, hold for 0.7, and go back after the second."""
    stops = [0, 1, 2, 1]

    def camera(t: float) -> Matrix:
        number, phase = divmod(t + 0.001, 0.94)
        here, there = stops[int(number) % 4], stops[(int(number) + 1) % 4]
        return view(about=((here + (there - here) * _ease((phase - 0.7) / 0.24)) * size[0], 0.0))

    return camera


def _ease(share: float) -> float:
    share = min(1.0, max(0.0, share))
    return share * share * (3.0 - 2.0 * share)


def _roll(size: Size, _seed: int, _world: World) -> Camera:
    about = (size[0] / 2, size[1] / 2)
    return lambda t: view(1.25, 38.0 * math.sin(4.2 * t), about, about)


MIDDLE: Size = (960, 540)
HEIGHTS = (118.0, 96.0, 74.0, 60.0, 48.0, 40.0)
"""Heights of faces in a picture of 540 lines."""


def _spread(low: float, high: float, number: int, lines: int, power: int = 1) -> list[float]:
    """Return heights of faces between two that hold in a picture of so many lines; the power makes large ones rare."""
    shares = np.linspace(0.0, 1.0, number) ** power
    return [float(low * (high / low) ** share * MIDDLE[1] / lines) for share in shares]


def _one(
    number: int,
    heights: Sequence[float] = HEIGHTS,
    *,
    operator: Operator | None = None,
    wide: int = 1,
    shutter: float = 0.0,
    **people: Any,
) -> Shots:
    """Return a single shot of a world; ``number`` is added to its seed, ``wide`` is its width in pictures."""

    def shots(size: Size, seed: int) -> list[Shot]:
        tall = [height * size[1] / MIDDLE[1] for height in heights]
        place = world((wide * size[0], size[1]), tall, seed + number, **people)
        return [Shot(place, operator(size, seed, place) if operator else None, shutter)]

    return shots


def _scenes(size: Size, seed: int) -> list[Shot]:
    """Four scenes with other people in each; the second has only clutter."""
    parts = (
        _one(7, HEIGHTS[:4], walk=0.3),
        _one(8, (), backdrop="room", clutter=4),
        _one(9, HEIGHTS[1:], backdrop="room", walk=0.3),
        _one(10, HEIGHTS[:4], walk=0.3),
    )
    return [shot for part in parts for shot in part(size, seed)]


def _panned(size: Size, _: int) -> list[Shot]:
    """Move a window over the photographs of ``../shared``; faces are those of its reference results."""
    folder = shared()
    if folder is None:
        raise FileNotFoundError(
            "no photographs: put them into ../shared/images, or name the folder in SCRFD_TRT_SHARED"
        )
    results = json.loads((folder / "reference" / "insightface-2.1.json").read_text())
    shots = []
    for name in ("street.jpg", "worlds-largest-selfie.jpg", "people.png"):
        photo = cv2.imread(str(folder / "images" / name))
        if photo is None:
            raise FileNotFoundError(f"{folder / 'images' / name} cannot be read")
        boxes: list[list[float]] = []
        for by_scale in results.values():
            for box in next(iter(by_scale.values()))[name]["boxes"]:
                if all(overlap(box, other) < 0.3 for other in boxes):
                    boxes.append(box)
        known = [Face(number + 1, (box[0], box[1], box[2], box[3]), 1.0) for number, box in enumerate(boxes)]
        shots.append(Shot(World(np.asarray(photo, np.uint8), known=known), _pan(photo.shape[1::-1], size)))
    return shots


def _pan(whole: Size, size: Size) -> Camera:
    zoom = max(1.0, 1.25 * size[0] / whole[0], 1.25 * size[1] / whole[1])
    free = (whole[0] - size[0] / zoom, whole[1] - size[1] / zoom)

    def camera(t: float) -> Matrix:
        x, y = free[0] * (0.5 + 0.5 * math.sin(1.3 * t - 1.2)), free[1] * (0.5 + 0.5 * math.sin(2.1 * t))
        return view(zoom, about=(x, y))

    return camera


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over the union of two boxes."""
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(wide, 0.0) * max(high, 0.0)
    return both / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - both)


def shared() -> Path | None:
    """Return the folder with photographs and reference results, if there is one."""
    folder = Path(os.environ.get("SCRFD_TRT_SHARED") or Path(__file__).parents[2] / "shared")
    return folder if (folder / "images").is_dir() else None


class Recipe(NamedTuple):
    """How to make a clip: its shots, size, the seconds between them (0: cuts), and whether through black or turned."""

    shots: Shots
    size: Size = MIDDLE
    mix: float = 0.0
    black: bool = False
    turned: bool = False


HALF = 0.5 / RATE
HD, UHD = (1920, 1080), (3840, 2160)
STATIC = _one(0, walk=0.2)
CLIPS: dict[str, Recipe] = {
    "static": Recipe(STATIC),
    "street": Recipe(_one(1, walk=1.2, clutter=5)),
    "clutter": Recipe(_one(2, HEIGHTS[1:5], operator=_shake(0.4), clutter=28, walk=0.3)),
    "zoom": Recipe(_one(3, (60, 52, 46, 40, 36, 32), operator=_zoom(3.0, 0.6), clutter=7, walk=0.3)),
    "fastzoom": Recipe(_one(12, (56, 46, 38, 32, 28), operator=_zoom(4.5, 0.25), shutter=HALF, clutter=7, walk=0.3)),
    "whip": Recipe(_one(4, HEIGHTS + HEIGHTS[:5], operator=_whip, wide=3, shutter=HALF, clutter=9, walk=0.2)),
    "roll": Recipe(_one(5, operator=_roll, clutter=6, walk=0.3)),
    "handheld": Recipe(_one(6, operator=_shake(1.0), shutter=HALF, clutter=10, walk=0.5)),
    "cut": Recipe(_scenes),
    "dissolve": Recipe(_scenes, mix=0.6),
    "fade": Recipe(_scenes, mix=0.8, black=True),
    "lying": Recipe(STATIC, turned=True),
    "small1080": Recipe(_one(11, _spread(14, 25, 60, 1080), clutter=4, walk=0.5), HD),
    "small4k": Recipe(_one(11, _spread(20, 40, 80, 2160), clutter=4, walk=0.5), UHD),
    "crowd4k": Recipe(_one(11, _spread(24, 150, 110, 2160), clutter=4, walk=0.5, layout=Layout(spread=0.6)), UHD),
    "panned": Recipe(_panned, (640, 360)),
}
"""Clips by name."""


PICTURES: dict[str, Recipe] = {
    "phone12mp": Recipe(_one(20, _spread(18, 80, 40, 3000), clutter=8), (4000, 3000)),
    "scene12mp": Recipe(_one(20, _spread(16, 800, 100, 3000, 4), layout=Layout(0.08, 2.4, 0.35)), (4000, 3000)),
    "panorama": Recipe(_one(20, _spread(60, 145, 20, 2500)), (10000, 2500)),
}
"""Photographs by name."""


def frames(
    name: str, *, seconds: float = 4.0, seed: int = 0, size: Size | None = None
) -> Iterator[tuple[Image, list[Face], bool]]:
    """Draw the frames of a clip: each with its faces and whether a scene begins there."""
    recipe = CLIPS[name]
    size = size or recipe.size
    shots, number = recipe.shots(size, seed), round(seconds * RATE)
    length = number / len(shots)
    for frame in range(number):
        at = min(int(frame / length), len(shots) - 1)
        image, faces = _seen(shots, at, size, frame)
        if recipe.mix and at + 1 < len(shots):
            # The change ends where the next shot's time begins.
            share = 1.0 - ((at + 1) * length - frame) / (recipe.mix * RATE)
            if share > 0.0:
                image, faces = _change((image, faces), _seen(shots, at + 1, size, frame), share, recipe.black)
        begins = not recipe.mix and frame > 0 and int((frame - 1) / length) < at
        if recipe.turned:
            image, faces = _turn(image, faces)
        yield image, faces, begins


def _seen(shots: Sequence[Shot], number: int, size: Size, frame: int) -> tuple[Image, list[Face]]:
    """Return a frame of a shot; the people of each shot have their own numbers."""
    image, faces = render(shots[number], size, frame / RATE)
    return image, [face._replace(track=1000 * number + face.track) for face in faces]


def _change(
    one: tuple[Image, list[Face]], two: tuple[Image, list[Face]], share: float, black: bool
) -> tuple[Image, list[Face]]:
    """Mix two frames, or show the first or the second darkened."""
    dark: tuple[Image, list[Face]] = np.zeros_like(one[0]), []
    if not black:
        return _mix(one, two, share)
    return _mix(one, dark, 2.0 * share) if share < 0.5 else _mix(dark, two, 2.0 * share - 1.0)


def _mix(one: tuple[Image, list[Face]], two: tuple[Image, list[Face]], share: float) -> tuple[Image, list[Face]]:
    image = cv2.addWeighted(one[0], 1.0 - share, two[0], share, 0.0)
    faces = [
        face._replace(shown=face.shown * part)
        for some, part in ((one[1], 1.0 - share), (two[1], share))
        for face in some
    ]
    return np.asarray(image, np.uint8), [face for face in faces if face.shown > 0.0]


def _turn(image: Image, faces: list[Face]) -> tuple[Image, list[Face]]:
    """Turn a frame by 90 degrees clockwise."""
    high = image.shape[0]
    boxes = [(high - y2, x1, high - y1, x2) for _, (x1, y1, x2, y2), _ in faces]
    turned = [face._replace(box=box) for face, box in zip(faces, boxes, strict=True)]
    return np.ascontiguousarray(np.rot90(image, -1)), turned


ENCODING = ({"crf": "12", "preset": "ultrafast"}, {"crf": "27", "preset": "veryslow"})


def make(
    name: str,
    folder: Path,
    *,
    seconds: float = 4.0,
    seed: int = 0,
    size: Size | None = None,
    sound: bool = True,
    small: bool = False,
) -> tuple[Path, Truth]:
    """Write a clip ``NAME.mp4`` and its truth ``NAME.truth.json``.

    Parameters
    ----------
    name
        One of ``CLIPS``.
    folder
        Where to write; made if missing.
    seconds
        Length of the clip.
    seed
        The same arguments give the same frames.
    size
        Width and height in pixels; default: the clip's own.
    sound
        Whether the clip has a tone.
    small
        Whether the file is small; its encoding takes longer, and loses more.

    Returns
    -------
    tuple
        Path of the clip, and its truth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, known, cuts = folder / f"{name}.mp4", [], []
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options=ENCODING[small])
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for number, (image, faces, begins) in enumerate(frames(name, seconds=seconds, seed=seed, size=size)):
            if number == 0:
                video.height, video.width = image.shape[:2]
            known.append(faces)
            cuts += [number] if begins else []
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        if audio is not None:
            tone = np.sin(np.arange(round(seconds * 48000)) * np.float32(2 * np.pi * 440 / 48000)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(0.2 * tone[None], "fltp", "mono")
            block.sample_rate = 48000
            block.pts = 0
            container.mux(audio.encode(block))
            container.mux(audio.encode())
        container.mux(video.encode())
    found = Truth(name, (video.width, video.height), float(RATE), known, cuts)
    found.save(folder / f"{name}.truth.json")
    return path, found


def picture(name: str, *, seed: int = 0) -> tuple[Image, Truth]:
    """Return one of the ``PICTURES`` and its truth."""
    recipe = PICTURES[name]
    (shot,) = recipe.shots(recipe.size, seed)
    image, faces = render(shot, recipe.size, 0.0)
    return image, Truth(name, recipe.size, 1.0, [faces], [])


def main(arguments: Sequence[str]) -> None:
    """Write the named clips and pictures."""
    if len(arguments) < 2:
        raise SystemExit(
            f"python drawing/clips.py NAME... FOLDER, with names among: all, {', '.join([*CLIPS, *PICTURES])}"
        )
    *names, folder = arguments
    for name in [*CLIPS, *PICTURES] if "all" in names else names:
        if name in PICTURES:
            image, known = picture(name)
            Path(folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(Path(folder, f"{name}.jpg")), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
            known.save(Path(folder, f"{name}.truth.json"))
        elif name != "panned" or shared():
            make(name, Path(folder))
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
