"""Run ``anonymize`` and ``tracks`` on a drawn clip, and write the pictures of docs/how-to and docs/explanation.

python docs/make_video_pictures.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

import drawing

FOLDER = Path(__file__).parent / "images" / "video"
SHOWN = (20, 75, 130)
SIZE, RATE = (640, 360), 30


def draw_clip(path: Path, frames: int) -> None:
    """Write a clip of drawn people."""
    backdrop = drawing.BACKDROPS["park"](SIZE, 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            image = backdrop.copy()
            for actor in range(4):
                x = (90 + 150 * actor + (2 + actor) * number) % (SIZE[0] + 160) - 80
                drawing.draw_face(image, (x, 130 + 25 * actor), 50 + 8 * actor, look=actor)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())


def run(*arguments: str, folder: str) -> None:
    """Run a command of scrfd-trt."""
    subprocess.run([sys.executable, "-m", "scrfd_trt", *arguments], cwd=folder, check=True)


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_clip(Path(folder, "clip.mp4"), 150)
        run("anonymize", "clip.mp4", folder=folder)
        run("tracks", "clip.mp4", "--threshold", "0.5", "-o", "tracks.png", folder=folder)
        with av.open(str(Path(folder, "clip_anonymized.mp4"))) as clip:
            frames = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)]
        small = [cv2.resize(frames[number], (480, 270), interpolation=cv2.INTER_AREA) for number in SHOWN]
        gap = np.full((270, 6, 3), 255, np.uint8)
        strip = np.hstack([small[0], gap, small[1], gap, small[2]])
        cv2.imwrite(str(FOLDER / "anonymized.jpg"), strip, [cv2.IMWRITE_JPEG_QUALITY, 88])
        (FOLDER / "tracks.png").write_bytes(Path(folder, "tracks.png").read_bytes())


if __name__ == "__main__":
    main()
