"""Make the golden pictures of the tests anew: ``python tests/make_golden.py`` from the project's root.

They are what the overlays draw over the image of ``tests/overlays/conftest.py``. Look at each one that changed before
you commit it; the script says which these are.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write each picture, and say whether it differs from the one before."""
    made = runpy.run_path(str(HERE / "overlays" / "conftest.py"))
    folder: Path = made["GOLDEN_FOLDER"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in made["GOLDEN"].items():
        path = folder / f"{name}.png"
        image, before = draw(), cv2.imread(str(path)) if path.exists() else None
        change = "new" if before is None else made["difference"](image, before) or "as before"
        if change != "as before":
            cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        print(f"{path.relative_to(HERE.parent)}: {change}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
