"""Write the packages' pictures: run ``python -m drawing.make_assets`` in the project's root."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing import clips, emoji, skull
from drawing.scenes import Scene, portrait, scene

ROOT = Path(__file__).resolve().parents[1]

SCENES: dict[str, Callable[[], Scene]] = {
    "group": scene,
    "group-640x480": partial(scene, (640, 480)),
    "portrait": portrait,
}
"""Contents of ``scrfd_trt/assets``: a PNG, and its faces as JSON."""

PICTURES: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "skull": skull.draw,
    **{f"emoji-{kind}": partial(emoji.draw, kind) for kind in emoji.KINDS},
}
"""Contents of ``overlays/assets``: PNG files with alpha."""


def main() -> None:
    """Write all files."""
    for name, draw in SCENES.items():
        image, faces = draw()
        path = ROOT / "scrfd_trt" / "assets" / f"{name}.png"
        _write(path, image)
        path.with_suffix(".json").write_text(faces.to_json() + "\n", encoding="utf-8")
    folder = ROOT / "scrfd_trt" / "assets"
    made, _ = clips.make("static", folder, seconds=5, size=(640, 360), sound=False, small=True)
    made.replace(folder / "people.mp4")
    made.with_suffix(".truth.json").unlink()
    for name, picture in PICTURES.items():
        _write(ROOT / "overlays" / "assets" / f"{name}.png", picture())


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise SystemExit(f"cannot write {path}")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
