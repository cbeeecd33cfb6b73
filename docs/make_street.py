"""Write the moving picture of README and docs: ``python docs/make_street.py``.

A drawn street, plain, then with the faces covered, then with skulls. The command line covers them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import overlays
from drawing import clips

PICTURE = Path(__file__).parent / "images" / "street.webp"
SIZE, RATE, SECONDS, SEED = (640, 360), 12, 2, 42
HEIGHTS = (104.0, 84.0, 62.0, 48.0, 38.0)
COMMANDS = (
    (),
    ("anonymize", "street.mp4", "-o", "covered.mp4"),
    ("overlay", "street.mp4", "--overlay", "skull", "-o", "skulls.mp4"),
)


def street() -> Iterator[NDArray[np.uint8]]:
    """Yield the frames: people who walk through a park."""
    shot = clips.Shot(clips.world(SIZE, HEIGHTS, SEED, walk=0.5, layout=clips.Layout(horizon=0.34, slope=0.9)))
    for number in range(len(COMMANDS) * SECONDS * RATE):
        yield clips.render(shot, SIZE, number / RATE)[0]


def write_clip(path: Path) -> None:
    """Write the plain clip."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for image in street():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())


def read_part(path: Path, number: int) -> list[NDArray[np.uint8]]:
    """Return the frames of one part of the time."""
    with av.open(str(path)) as clip:
        frames = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)]
    return frames[number * SECONDS * RATE : (number + 1) * SECONDS * RATE]


def captioned(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Return a picture with a line of text below it."""
    bar = np.full((30, image.shape[1], 3), (46, 40, 36), np.uint8)
    drawn = np.vstack([image, bar])
    overlays.draw_text(drawn, text, 12, image.shape[0] + 20, height=11, color=(235, 235, 235))
    return drawn


def main() -> None:
    """Write the picture."""
    images = []
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder, "street.mp4"))
        for number, words in enumerate(COMMANDS):
            text = " ".join(["$ scrfd-trt", *words]) if words else "street.mp4"
            if words:
                subprocess.run([sys.executable, "-m", "scrfd_trt", *words], cwd=folder, check=True)
            file = Path(folder, words[-1] if words else "street.mp4")
            images += [captioned(image, text) for image in read_part(file, number)]
    pages = [Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) for image in images]
    pages[0].save(
        PICTURE, save_all=True, append_images=pages[1:], duration=round(1000 / RATE), loop=0, quality=62, method=6
    )
    print(f"{PICTURE.name}: {len(pages)} frames, {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
