"""Draw ``tests/data/scene.png`` anew: ``python tests/make_scene.py``."""

from __future__ import annotations

from pathlib import Path

import cv2

from scrfd_trt import samples

SIZE = (768, 432)


def main() -> None:
    path = Path(__file__).parent / "data" / "scene.png"
    path.parent.mkdir(exist_ok=True)
    drawn = samples.scene(SIZE)
    if not cv2.imwrite(str(path), drawn.image, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise SystemExit(f"{path} cannot be written")
    print(f"{path}: {path.stat().st_size // 1000} kB, {len(drawn.faces)} faces")


if __name__ == "__main__":
    main()
