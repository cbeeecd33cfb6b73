from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.cuda import CudaPipeline, timing

pytestmark = pytest.mark.slow

IMAGE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def pipeline(gpu, fakes):
    pipeline = CudaPipeline(opener(read_plan(fakes.two_sizes()), 0), DetectorOptions(scales=(32, 64)))
    yield pipeline
    pipeline.close()
    assert gpu.leaks == {}


def test_time_of_each_step(pipeline, fakes):
    times = timing.step_times(pipeline, [IMAGE], 0.5, runs=20)
    takes = fakes.MILLISECONDS
    assert times.engine == 2 * takes["network"]
    assert times.letterbox == 2 * takes["letterbox_float"]
    assert times.parameters == takes["copy"]
    assert times.faces == takes["find_faces"]
    assert times.whole == times.engine + times.letterbox + times.parameters + times.faces
    assert times.engine_waited > 0


def test_launches_of_a_span_follow_each_other(gpu, pipeline):
    with timing.engine_alone(pipeline, [IMAGE], 0.5) as replay:
        gpu.calls.clear()
        replay.span(7)
        between = gpu.calls[gpu.calls.index("cuEventRecord") + 1 :]
        assert between[:8] == ["cuGraphLaunch"] * 7 + ["cuEventRecord"]
        assert gpu.calls.index("cuEventRecord") > gpu.calls.index("cuGraphLaunch")


def test_detection_works_while_the_engine_is_measured(pipeline, fakes):
    expected = pipeline.detect([IMAGE], 0.5, None)
    with timing.engine_alone(pipeline, [IMAGE], 0.5) as replay:
        for _ in range(3):
            assert replay.span(5) == 2 * fakes.MILLISECONDS["network"]
            assert pipeline.detect([IMAGE], 0.5, None) == expected
