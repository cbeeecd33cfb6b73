"""Write the pictures of README and docs, and the text of the gallery: ``python docs/make_pictures.py``.

All pictures show drawn people. Review each changed picture before committing it.
"""

from __future__ import annotations

import html
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import overlays
from scrfd_trt import Detections, SCRFDDetector, samples
from scrfd_trt._cli.commands.demo import images

HERE = Path(__file__).parent
FOLDER = HERE / "images"
PAGE = HERE / "gallery.md"
QUALITY = 86
WIDTH, HEIGHT = 640, 360

Image = NDArray[np.uint8]

GLASSES = "glasses.png"
"""Picture with alpha for the overlay ``image``, in the gallery's folder."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "skull": ("skull", "skull:opacity=0.5"),
    "blur": ("blur", "blur:shape=aligned,feather=0.2"),
    "pixelate": ("pixelate", "pixelate:shape=rectangle,feather=0,strength=0.2"),
    "solid": ("solid", "solid:shape=aligned,fill=orange,margin=0.1"),
    "image": (
        f'image:picture={GLASSES},fit=two,points="0.25 0.5 0.75 0.5 0.5 1.4 0.31 2.27 0.69 2.27"',
        f'image:picture={GLASSES},fit=three,points="0.25 0.5 0.75 0.5 0.5 1.4 0.31 2.27 0.69 2.27",opacity=0.8',
    ),
    "emoji": ("emoji", "emoji:kind=robot"),
    "landmarks": ("landmarks", "landmarks:box=no,score=no,size=2"),
    "boxes": ("boxes", "boxes:style=full,label=score,box_color=orange"),
    "spotlight": ("spotlight", "spotlight:effect=blur,amount=0.4"),
    "crop": ("crop", "crop:side=right,size=0.3,margin=0.1"),
}
"""Overlays in the gallery, and how they are drawn."""


def glasses() -> Image:
    """Return round glasses, ``(160, 480, 4)`` uint8; the eyes are at a quarter and three quarters of the width."""
    fine = np.zeros((640, 1920, 4), np.uint8)
    fine[..., :3] = (40, 30, 120)
    alpha = fine[..., 3].copy()
    for x in (480, 1440):
        cv2.circle(alpha, (x, 320), 260, 255, 70)
        cv2.circle(alpha, (x, 320), 226, 70, cv2.FILLED)
    cv2.ellipse(alpha, (960, 330), (230, 120), 0, 205, 335, 255, 60)
    fine[..., 3] = alpha
    return np.asarray(cv2.resize(fine, (480, 160), interpolation=cv2.INTER_AREA), np.uint8)


def detect_scene() -> tuple[Image, Detections]:
    """Return the scene and its detected faces, with track ids as on video."""
    scene = samples.load("group").image
    with SCRFDDetector(device="cpu") as detector:
        faces = detector.detect(scene)
    columns = (faces.boxes, faces.scores, faces.landmarks)
    return scene, Detections(*columns, image_size=faces.image_size, track_ids=np.arange(len(faces)), pts_seconds=0.0)


def render(spec: str, scene: Image, faces: Detections) -> Image:
    """Return one picture of the gallery."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GLASSES
        cv2.imwrite(str(path), glasses())
        drawn = overlays.parse(spec.replace(GLASSES, str(path)))(scene, faces)
    return np.asarray(cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def file_name(name: str, number: int) -> str:
    """Return the file name of a picture in the gallery."""
    return f"gallery/{name}-{number + 1}.jpg"


def gallery() -> str:
    """Return the gallery's text: pictures, their specs, and the options of each overlay."""
    return "\n\n".join(_section(name, specs) for name, specs in EXAMPLES.items())


def _section(name: str, specs: tuple[str, ...]) -> str:
    figures = "".join(_figure(file_name(name, number), spec) for number, spec in enumerate(specs))
    lines = [f"### {name}", overlays.summary(name), f'<div class="gallery" markdown>\n{figures}</div>']
    if landmarks := getattr(overlays.load(name), "without_landmarks", ""):
        lines.append(f"Without landmarks: {landmarks}")
    return "\n\n".join([*lines, _options(name)])


def _figure(file: str, spec: str) -> str:
    plain = spec.replace('"', "")
    picture = f"![The drawn group with {plain}](images/{file}){{ width={WIDTH} height={HEIGHT} loading=lazy }}"
    caption = html.escape(spec)
    return f'<figure markdown="span">\n  {picture}\n  <figcaption><code>{caption}</code></figcaption>\n</figure>\n'


def _options(name: str) -> str:
    rows = ["| option | values | default | meaning |", "|---|---|---|---|"]
    for option in overlays.describe(name):
        values = (option.type + (f", {option.range}" if option.range else "")).replace("|", "\\|")
        default = "required" if option.required else "" if option.default is None else f"`{_text(option.default)}`"
        rows.append(f"| `{option.name}` | {values} | {default} | {option.description} |")
    return f'??? note "Options of {name}"\n\n' + "\n".join(f"    {row}" for row in rows)


def _text(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    return f"{default:g}" if isinstance(default, float) else str(default)


def write(name: str, image: Image) -> None:
    """Write one picture."""
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise SystemExit(f"cannot write {path}")
    print(f"{name}: {path.stat().st_size // 1000} kB")


def main() -> None:
    """Write all pictures, and the gallery into docs/gallery.md."""
    scene, faces = detect_scene()
    write("demo.jpg", images(scene, faces)["contact-sheet.png"])
    write("gallery/scene.jpg", np.asarray(cv2.resize(scene, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8))
    write(f"gallery/{GLASSES}", glasses())
    for name, specs in EXAMPLES.items():
        for number, spec in enumerate(specs):
            write(file_name(name, number), render(spec, scene, faces))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(r"(?s)(<!-- gallery -->\n).*?(\n<!-- /gallery -->)", lambda m: m[1] + gallery() + m[2], page),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
