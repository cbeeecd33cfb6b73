"""Write the golden pictures of the tests: run ``python tests/make_golden.py`` in the project's root.

They show the overlays on the image of ``tests/overlays/conftest.py``. The script prints which ones changed; review each
before committing it.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write each picture, and print whether it changed."""
    made = runpy.run_path(str(HERE / "overlays" / "conftest.py"))
    folder: Path = made["GOLDEN_FOLDER"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in made["GOLDEN"].items():
        path = folder / f"{name}.png"
        image, before = draw(), cv2.imread(str(path)) if path.exists() else None
        change = "new" if before is None else made["difference"](image, before) or "unchanged"
        if change != "unchanged":
            cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        print(f"{path.relative_to(HERE.parent)}: {change}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
