"""Fixtures that run the command line in this process, write image files, and replace models by a fake one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import overlays
from scrfd_trt import SCRFDDetector, _devices
from scrfd_trt._cli.application import app
from scrfd_trt._engine import flavours

PROGRAM = Path(__file__).with_name("spot_network.py")
BOX = (40, 30, 90, 100)
SIZE = (160, 120)


class Ran(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Return the single line on stderr without its label."""
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").rstrip("\n")


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs ``scrfd-trt`` with arguments."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*args: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(arg) for arg in args], prog_name="scrfd-trt")
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def spot_network() -> Iterator[ModuleType]:
    """The module with the fake model."""
    spec = importlib.util.spec_from_file_location("spot_network", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("spot_network", None)


@pytest.fixture
def spots(spot_network: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every model known by name by the fake one, which detects a white spot."""
    monkeypatch.setattr(SCRFDDetector, "from_pretrained", spot_network.stand_in())


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU or any TensorRT."""
    monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver: it is not here"))
    monkeypatch.setattr(flavours, "installed", tuple)
    monkeypatch.setattr(flavours, "problems", lambda: dict.fromkeys(flavours.NAMES, flavours.NOT_INSTALLED))


@pytest.fixture
def known_overlays() -> None:
    """Skip if overlays are not known by name, because scrfd-trt is not installed."""
    if not overlays.names():
        pytest.skip("scrfd-trt is not installed, so no overlay is known by name")


def drawn(box: tuple[int, int, int, int] | None = BOX, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Return grey noise with a white spot, or without one if the box is None."""
    image = np.random.default_rng(0).integers(60, 120, (size[1], size[0], 3)).astype(np.uint8)
    if box is not None:
        image[box[1] : box[3], box[0] : box[2]] = 255
    return image


Picture = Callable[..., Path]


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Picture:
    """Return a function that writes an image with a white spot below an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str = "spot.png", box: tuple[int, int, int, int] | None = BOX, keep: float = 1.0) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(path.suffix, drawn(box))[1].tobytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return write


Film = Callable[..., Path]


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Film:
    """Return a function that writes a video of a white spot, hidden in some frames, below an empty current folder."""
    av = pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)

    def write(
        name: str = "clip.mp4",
        hidden: tuple[int, ...] = (7, 8),
        frames: int = 20,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        form: str | None = None,
        sound: bool = False,
    ) -> Path:
        with av.open(name, "w", format=form) as container:
            container.metadata.update({"title": "Our street", "location": "+52.1+013.2/"})
            stream = container.add_stream(codec, rate=Fraction(10), options={"crf": "12"} if "264" in codec else {})
            stream.width, stream.height = SIZE
            stream.pix_fmt = pixels
            beside = container.add_stream("pcm_s16le", rate=8000) if sound else None
            for number in range(frames):
                image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
                if number not in hidden:
                    image[30:100, 40:90] = 255
                image[:20, number * 4 : number * 4 + 8] = 120
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=pixels)))
            container.mux(stream.encode())
            if beside is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
                silence.sample_rate, silence.pts = 8000, 0
                container.mux(beside.encode(silence))
                container.mux(beside.encode(None))
        return Path(name)

    return write


def files_below(folder: Path) -> list[str]:
    """Return all files below a folder, hidden ones included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
