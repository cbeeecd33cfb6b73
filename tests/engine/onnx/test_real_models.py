from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrfd_trt._engine.onnx.rewrite import prepare
from scrfd_trt._engine.onnx.verify_rewrite import compare

pytestmark = pytest.mark.slow

SIZES = ((128, 128), (320, 192), (640, 640))


@pytest.fixture(params=["500m", "2.5g grid", "2.5g flat"])
def path(request) -> Path:
    if request.param == "500m":
        return request.getfixturevalue("network_500m")
    found = request.getfixturevalue("models_2_5g")[request.param.split()[1]]
    if not found.is_file():
        pytest.skip(f"{found.name} is missing")
    return found


def test_fp16_finds_the_faces_of_the_file(path):
    found = compare(path, prepare(path, sizes=SIZES))
    assert [agreement.size for agreement in found] == list(SIZES)
    # Measured: 0.002, 0.0006 and 0.0008, and 0.09 pixels. The limits are well below the tolerance, to notice changes.
    assert max(agreement.score for agreement in found) < 0.004
    assert max(agreement.box for agreement in found) < 0.15
    assert [agreement.faces for agreement in found] == [4, 6, 6]


def test_fp32_gives_the_same_numbers(path):
    (found,) = compare(path, prepare(path, sizes=((640, 640),), precision="fp32"))
    assert found.score < 1e-6
    assert found.box < 1e-3


def test_rewritten_grid_and_flat_models_agree(models_2_5g, run, blob):
    if not all(path.is_file() for path in models_2_5g.values()):
        pytest.skip("the 2.5G models are missing")
    three = blob(3, 320, 192)
    grid, flat = (run(prepare(path, sizes=SIZES, precision="fp32").model, three) for path in models_2_5g.values())
    for key, values in grid.items():
        np.testing.assert_allclose(flat[key], values, rtol=1e-4, atol=1e-4)


def test_batches_agree_with_single_images(network_500m, run, blob):
    prepared = prepare(network_500m, sizes=SIZES)
    three = blob(3, 320, 192)
    together = run(prepared.model, three)
    for index in range(3):
        alone = run(prepared.model, three[index : index + 1])
        for key, values in alone.items():
            np.testing.assert_allclose(together[key][index : index + 1], values, rtol=1e-3, atol=1e-3)
