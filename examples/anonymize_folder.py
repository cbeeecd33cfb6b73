"""Make the faces in all photographs of a folder unreadable, several photographs at a time.

python examples/anonymize_folder.py photos hidden
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

import overlays
from scrfd_trt import SCRFDDetector

AT_ONCE = 8


def main(source: Path, target: Path) -> None:
    """Write a copy of each photograph in ``source`` into ``target``, with every face pixelated."""
    # A low threshold: a face too many is hidden rather than one too few.
    hide = overlays.create("blur", method="pixelate", margin=0.2)
    photos = sorted(path for path in source.iterdir() if cv2.haveImageReader(str(path)))
    target.mkdir(exist_ok=True)
    if target.samefile(source):
        raise SystemExit(f"{target} is where the photographs are, which would be overwritten; name another folder")
    with SCRFDDetector(threshold=0.3, max_batch=AT_ONCE) as detector:
        for first in range(0, len(photos), AT_ONCE):
            read = {photo: cv2.imread(str(photo)) for photo in photos[first : first + AT_ONCE]}
            images = {photo: image for photo, image in read.items() if image is not None}
            for photo in read:
                if photo not in images:
                    print(f"{photo.name}: cannot be read, and is left out")
            for (photo, image), faces in zip(images.items(), detector.detect_batch(list(images.values())), strict=True):
                cv2.imwrite(str(target / photo.name), hide(image, faces))
                print(f"{photo.name}: {len(faces)} faces hidden")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
