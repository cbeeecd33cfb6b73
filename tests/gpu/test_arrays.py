"""Arrays of other libraries, as they hand them out: each is read where it is, like the same pixels of NumPy."""

from __future__ import annotations

import os
from contextlib import ExitStack

import av
import cv2
import numpy as np
import pytest

import drawing
from scrfd_trt import SCRFDDetector, YUVImage

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the GPU's memory


def of_torch(image, _):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(image).cuda()
    yield tensor, image, "bgr"
    yield tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0), image, "bgr"
    yield torch.cat([tensor, tensor[..., :1]], dim=2), image, "bgr"


def of_cupy(image, _):
    cupy = pytest.importorskip("cupy")
    yield cupy.asarray(image), image, "bgr"
    yield cupy.asfortranarray(cupy.asarray(image)), image, "bgr"
    yield cupy.asarray(image)[:, :, 1:2], image[:, :, 1:2], "bgr"


def of_jax(image, _):
    jax = pytest.importorskip("jax")
    yield jax.device_put(image, jax.devices("gpu")[0]), image, "bgr"


def of_nvimgcodec(image, _):
    nvimgcodec = pytest.importorskip("nvidia.nvimgcodec")
    for ending in (".jpg", ".png"):
        decoded = nvimgcodec.Decoder().decode(cv2.imencode(ending, image)[1].tobytes())
        assert decoded is not None
        yield decoded.cuda(), np.array(decoded.cpu()), "rgb"


def of_pynvvideocodec(image, folder):
    nvc = pytest.importorskip("PyNvVideoCodec")
    path = str(folder / "clip.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, width=image.shape[1], height=image.shape[0])
        for frame in (*(av.VideoFrame.from_ndarray(image, "bgr24") for _ in range(3)), None):
            container.mux(stream.encode(frame))
    for kind, color in ((nvc.OutputColorType.NATIVE, "nv12"), (nvc.OutputColorType.RGB, "rgb")):
        for frame in nvc.SimpleDecoder(path, use_device_memory=True, output_color_type=kind):
            pixels = np.array(copied(frame))
            yield frame, pixels, color
            if color == "nv12":
                height, width = image.shape[:2]
                yield (
                    YUVImage(*frame.cuda()),
                    YUVImage(pixels[:height], pixels[height:].reshape(-1, width // 2, 2)),
                    "rgb",
                )


def copied(frame):
    """A copy in host memory, by a library that reads the same protocol."""
    try:
        return pytest.importorskip("cupy").from_dlpack(frame).get()
    except ImportError:
        return pytest.importorskip("torch").from_dlpack(frame).cpu().numpy()


@pytest.fixture(scope="module")
def detectors(plan, opened):
    with ExitStack() as stack:
        yield {
            color: stack.enter_context(SCRFDDetector.from_engine(plan, max_batch=4, color=color))
            for color in ("bgr", "rgb", "nv12")
        }


@pytest.mark.parametrize("library", [of_torch, of_cupy, of_jax, of_nvimgcodec, of_pynvvideocodec])
def test_arrays_are_read_where_they_lie(detectors, library, tmp_path):
    image = drawing.scene((512, 384), 4).image
    for array, pixels, color in library(image, tmp_path):
        detector = detectors[color]
        wanted = detector.detect(pixels)
        assert len(wanted) > 0
        assert detector.detect(array) == wanted
        assert detector.submit([array]).result() == [wanted]
        assert detector.detect_on_gpu([array])[0].to_host() == wanted
        assert list(detector.stream([array, pixels, array], batch=1)) == [wanted] * 3
