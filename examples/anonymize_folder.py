"""Make the faces in all photographs of a folder unreadable, reading some while others are searched.

python examples/anonymize_folder.py photos hidden
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

import overlays
from scrfd_trt import SCRFDDetector, ScrfdError


def main(source: Path, target: Path) -> None:
    """Write a copy of each photograph in ``source`` into ``target``, with every face pixelated."""
    # A low threshold: a face too many is hidden rather than one too few.
    hide = overlays.create("blur", method="pixelate", margin=0.2)
    photos = sorted(path for path in source.iterdir() if cv2.haveImageReader(str(path)))
    target.mkdir(exist_ok=True)
    if target.samefile(source):
        raise SystemExit(f"{target} is where the photographs are, which would be overwritten; name another folder")
    with SCRFDDetector(threshold=0.3) as detector:
        for photo, faces in zip(photos, detector.stream(photos, on_error="return"), strict=True):
            if isinstance(faces, ScrfdError):
                print(f"{photo.name}: left out: {faces.reason}")
                continue
            cv2.imwrite(str(target / photo.name), hide(cv2.imread(str(photo)), faces))
            print(f"{photo.name}: {len(faces)} face{'s' * (len(faces) != 1)} hidden")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
