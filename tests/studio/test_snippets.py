"""The command line and the program beside the image."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

import overlays
from scrfd_trt._studio.snippets import as_command, as_python, overlay_spec, wrap_command
from scrfd_trt._studio.uploads import Media


def test_command_is_quoted_for_shell() -> None:
    media = Media("my photo's.png", (np.zeros((4, 4, 3), np.uint8),))
    layers = [
        ("solid", {"fill": "#102030", "feather": 0.25}),
        ("landmarks", {"box": False}),
        ("image", {"picture": Path("/x/a, b.png")}),
    ]
    words = shlex.split(as_command(media, 0.3, layers))
    assert words[:3] == ["scrfd-trt", "overlay", "my photo's.png"]
    specs = ["solid:fill=#102030,feather=0.25", "landmarks:box=no", 'image:picture="a, b.png"']
    assert words[3:9] == [word for one in specs for word in ("--overlay", one)]
    assert words[9:] == ["--threshold", "0.3", "-o", "my photo's-overlay.png"]
    assert overlays._registry.split_spec(overlay_spec(*layers[2])) == ("image", {"picture": "a, b.png"})
    ast.parse(as_python(media, 0.3, layers))


@pytest.mark.skipif(os.name == "nt", reason="PowerShell has another way to go on in the next line")
def test_commands_are_shown_wrap_command_that_a_shell_takes() -> None:
    command = as_command(
        Media("a photo's.png", (np.zeros((4, 4, 3), np.uint8),)), 0.5, [("image", {"picture": Path("a b.png")})]
    )
    shown = wrap_command(command)
    assert len(shown.splitlines()) == 4
    run = subprocess.run(["sh", "-c", f"printf '%s\\n' {shown}"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == shlex.split(command)


def test_no_command_without_overlays() -> None:
    media = Media("photo.png", (np.zeros((4, 4, 3), np.uint8),))
    assert as_command(media, 0.3, []) == ""
    assert "draw = overlays.Compose()\n" in as_python(media, 0.3, [])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("my clip.mp4", "my clip-overlay.mp4"),
        ("a.m4v", "a-overlay.mp4"),
        ("a.MOV", "a-overlay.mov"),
        ("a.webm", "a-overlay.mkv"),
        ("a.avi", "a-overlay.mkv"),
    ],
)
def test_command_and_python_of_clip(name: str, target: str) -> None:
    media = Media(name, (np.zeros((4, 6, 3), np.uint8),) * 3, Path("/somewhere/clip"))
    words = shlex.split(as_command(media, 0.3, [("emoji", {})]))
    assert words == ["scrfd-trt", "overlay", name, "--overlay", "emoji", "--threshold", "0.3", "-o", target]
    python = as_python(media, 0.3, [("emoji", {})])
    ast.parse(python)
    assert f"overlay_video({name!r}, {target!r}, detector, draw, tracking=tracking)" in python
    assert "TrackingOptions(threshold=0.3)" in python
    assert "TrackingOptions(threshold=0.1, low=0.1)" in as_python(media, 0.1, [])


def test_code_for_a_file_of_several_images() -> None:
    frames = (np.zeros((4, 4, 3), np.uint8),)
    media = Media("pages.tif", frames, truncated=True)
    assert shlex.split(as_command(media, 0.3, [("skull", {})]))[-1] == "pages-overlay.tif"
    lines = as_python(media, 0.3, [("skull", {})]).splitlines()
    read = lines.index("image = cv2.imread('pages.tif')")
    assert lines[read - 1] == "# only the first image of the file"
    single = Media("photo.tif", frames)
    assert shlex.split(as_command(single, 0.3, [("skull", {})]))[-1] == "photo-overlay.png"
    assert "first image" not in as_python(single, 0.3, [("skull", {})])
