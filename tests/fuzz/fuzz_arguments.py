"""The command line with any options and values: it ends with 0, 1 or 2, without a traceback and without remains."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, get_args

import fuzz_detections
import fuzz_images
import fuzz_videos
from hypothesis import strategies as st
from mutations import edge_numbers, module_of_tests

from scrfd_trt import SCRFDDetector
from scrfd_trt._cli import bench_cpu
from scrfd_trt._cli.application import COMMANDS, app, load_command
from scrfd_trt.distributed import _cluster
from scrfd_trt.errors import DeviceError
from scrfd_trt.service import _app

SECONDS = 60
MEBIBYTES = 500
PATHS = [
    "a.jpg", "a.png", "clip.mp4", "folder", "folder/alpha.png", "missing.png", "notes.txt", "broken.png", "empty.png",
    "animated.gif", "pages.tif", ".", "..", "-", "", " ", "~a.jpg", "~nouser/a.jpg", "12:30.mp4", "camera:9",
    "%05d.png", "a\udcff.png", "new.png", "new.mp4", "new", "no/folder/new.png", "/dev/null", "/dev/full", "fifo.png",
    "link.png", "a.faces.jsonl", "x" * 300 + ".png", "rtsp://127.0.0.1:9/x", "http://127.0.0.1:9/x.mp4", "file:a.png",
    "*.png",
]  # fmt: skip
WORDS = [
    "auto", "none", "all", "skull", "blur:strength=2", "emoji:kind=each", "solid:fill=red,opacity=2", "0", "1,2", "0-1",
    "1:2", "0.1,0.1,0.5,0.5", "640x640", "cpu", "cuda", "csv", "jsonl", "coco", "h264", "\udcff", "a" * 2000, "\n", "٣",
]  # fmt: skip


def prepare() -> None:
    """Replace what takes long: models by a stand-in, servers, clusters, and most runs of measurements."""
    SCRFDDetector.from_pretrained = module_of_tests("cli/spot_network.py").stand_in()
    server: Any = ModuleType("scrfd_trt._studio.server")
    server.serve = lambda *_, **__: None
    sys.modules[server.__name__] = server
    _app.serve, _cluster.connect = lambda *_, **__: None, _no_cluster
    measure, bench_cpu.WARM_UP = bench_cpu.measure_cpu, 0
    bench_cpu.measure_cpu = lambda backend, options, image, runs: measure(backend, options, image, min(runs, 1))


def _no_cluster(address: str | None) -> NoReturn:
    raise DeviceError(f"no cluster is at {address}")


@lru_cache
def parameters(command: str) -> list[Any]:
    """Return the options of a command, without its help."""
    return [each for each in load_command(command).params if each.name != "help" and each.opts[0].startswith("-")]


def values(parameter: Any) -> st.SearchStrategy[str]:
    """Return values of an option, most of its type."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", str)
    choices = [str(each) for each in get_args(kind) if isinstance(each, str)]
    if kind in (int, float):
        own = st.one_of(st.integers(0, 100).map(str), st.floats(0, 1).map(str))
    else:
        own = st.sampled_from(choices or (PATHS if kind is Path else WORDS))
    return st.one_of(own, own, own, st.sampled_from(WORDS), st.sampled_from(PATHS), edge_numbers().map(str))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, ...]:
    """Return the arguments of a command."""
    command = draw(st.sampled_from(["anonymize", "detect", "overlay", *sorted(COMMANDS)]))
    words = [*draw(st.lists(st.sampled_from(PATHS), max_size=3))]
    for parameter in draw(st.lists(st.sampled_from(parameters(command)), max_size=4)):
        words.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
        if not parameter.is_flag:
            words.append(draw(values(parameter)))
    return (command, *draw(st.permutations(words) if draw(st.integers(0, 9)) == 0 else st.just(words)))


def fill(folder: Path) -> None:
    """Write files that the arguments name."""
    images = {each.name: each.content for each in fuzz_images.samples()}
    (folder / "folder").mkdir()
    for name in ("a.jpg", "a.png", "animated.gif", "pages.tif"):
        (folder / name).write_bytes(images[name])
    for name, content in {
        "folder/alpha.png": images["alpha.png"],
        "folder/b.jpg": images["a.jpg"],
        "~a.jpg": images["a.jpg"],
        "a\udcff.png": images["a.png"],
        "broken.png": images["a.png"][:900],
        "empty.png": b"",
        "notes.txt": b"words",
        "a.faces.jsonl": fuzz_detections.samples()[0].content,
    }.items():
        (folder / name).write_bytes(content)
    (folder / "link.png").symlink_to("nowhere")
    os.mkfifo(folder / "fifo.png")
    if not fuzz_videos.missing:
        for name in ("clip.mp4", "12:30.mp4", "folder/clip.mp4"):
            (folder / name).write_bytes(fuzz_videos.samples()[0].content)


def check(case: tuple[str, ...]) -> None:
    """Run a command in a folder of its own."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace") for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        before = {path.name for path in Path(folder).rglob(".*")}
        code: Any = None
        here = Path.cwd()
        os.chdir(folder)
        try:
            with redirect_stdout(output), redirect_stderr(errors):
                app(list(case), prog_name="scrfd-trt")
        except SystemExit as end:
            code = end.code
        finally:
            os.chdir(here)
        left = {path.name for path in Path(folder).rglob(".*")} - before
    for stream in (output, errors):
        stream.seek(0)
    text, printed = errors.read(), output.read()
    assert code in (0, 1, 2, None), f"exit code {code}"
    assert "Traceback" not in text, text
    assert not left, f"files are left: {left}"
    if code:
        assert text.strip() or printed.strip(), f"exit code {code} without a message"


prepare()
