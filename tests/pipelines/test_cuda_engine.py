"""The GPU pipeline and its engine: profiles, execution contexts, memory, streams and errors."""

from __future__ import annotations

import gc
import threading
from contextlib import closing

import numpy as np
import pytest
from engine_backend import EngineBackend

from scrfd_trt import BackendError, DeviceError, OptionError
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.stream import create_stream
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt.backends import Backend

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


def images(count, width=64, height=64):
    return [RNG.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def opened(plan, *, device=0, stream=None, lean_runtime=None, **options):
    reopen = opener(read_plan(plan), device, lean_runtime=lean_runtime)
    return CudaPipeline(reopen, DetectorOptions(**options), stream=stream)


def faces_of(plan, pictures, **running):
    """Faces of the host pipeline with the same engine."""
    backend = EngineBackend(plan, **running)
    assert isinstance(backend, Backend)
    pipeline = HostPipeline(backend, DetectorOptions())
    found = pipeline.detect(pictures, 0.5, None)
    pipeline.close()
    return found


def blocks(gpu, size):
    return [len(block) for block in gpu.memory.values()].count(size)


def test_description_names_tensorrt_and_the_gpu(gpu, fakes):
    pipeline = opened(fakes.plan())
    assert pipeline.description == "tensorrt 8.6.0 on Fake H100 (cuda:0, compute capability 9.0)"
    pipeline.close()


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 33])
def test_each_part_of_a_batch_uses_the_nearest_profile(gpu, fakes, count):
    plan = fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))
    pictures = images(count)
    expected = faces_of(plan, pictures)
    gpu.runs.clear()
    pipeline = opened(plan)
    assert pipeline.detect(pictures, 0.5, None) == expected
    pipeline.close()
    runs = {(0, (4, 3, 64, 64))} if count >= 4 else set()
    if count % 4:
        runs.add((1 if count % 4 == 1 else 0, (count % 4, 3, 64, 64)))
    assert set(gpu.runs) == runs
    assert gpu.leaks == {}


def test_memory_and_contexts_are_created_on_demand_and_reused(gpu, fakes):
    pipeline = opened(fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1))))
    assert gpu.contexts == 0
    assert gpu.pinned == {}
    taken = []
    for count in (1, 1, 3, 1, 3, 4, 4, 1):
        pipeline.detect(images(count), 0.5, None)
        taken.append((gpu.contexts, gpu.calls.count("cuMemAlloc"), gpu.calls.count("cuMemHostAlloc")))
    assert [contexts for contexts, *_ in taken] == [1, 1, 2, 2, 2, 3, 3, 3]
    assert taken[0] == taken[1]
    assert taken[2] == taken[3] == taken[4]
    assert taken[5] == taken[6] == taken[7]
    pipeline.close()
    assert gpu.leaks == {}


@pytest.mark.parametrize("version", [(8, 6, 0, 12), (10, 16, 1, 11), (11, 4, 0, 106)])
def test_contexts_share_their_memory(gpu, fakes, monkeypatch, version):
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt", ".".join(map(str, version))))
    plan = fakes.plan(version=version, profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))
    pipeline = opened(plan)
    for count in (1, 3, 1):
        pictures = images(count)
        assert pipeline.detect(pictures, 0.5, None) == faces_of(plan, pictures)
    assert gpu.contexts == 2
    assert blocks(gpu, fakes.SCRATCH) == 1
    pipeline.close()
    assert gpu.leaks == {}


def test_engine_of_a_lean_runtime_allocates_its_own_memory(gpu, fakes, monkeypatch, tmp_path):
    (tmp_path / "lean.so").touch()
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt_dispatch", "10.16.1.11"))
    pictures = images(2)
    pipeline = opened(fakes.plan(), lean_runtime=tmp_path / "lean.so")
    assert pipeline.detect(pictures, 0.5, None) == faces_of(fakes.plan(), pictures, lean_runtime=tmp_path / "lean.so")
    assert blocks(gpu, fakes.SCRATCH) == 0
    pipeline.close()
    assert gpu.leaks == {}


def test_size_without_profile(gpu, fakes):
    plan = fakes.plan(
        profiles=fakes.ranges((1, 2, 4), side=64) + fakes.ranges((1, 2, 4), side=128), tensors=fakes.specs(-1)
    )
    message = r"cannot run at 96×96; its inputs \(images×3×height×width\) are: 1…4×3×64×64, 1…4×3×128×128"
    with pytest.raises(OptionError, match=message):
        opened(plan, scales=96)
    assert gpu.leaks == {}


def test_each_call_makes_its_gpu_current_and_restores_the_previous_one(gpu, fakes):
    pipeline = opened(fakes.plan(), device=1)
    first = Device(0)
    with first.current():
        pipeline.detect(images(1), 0.5, None)
        assert gpu.current == [first.context]
    assert gpu.current == []
    assert pipeline.device.index == 1
    assert "cuda:1" in pipeline.description
    pipeline.close()


class TestStreams:
    def test_stream_of_the_caller_keeps_its_order_and_stays_open(self, gpu, fakes):
        pictures = images(2)
        expected = faces_of(fakes.plan(), pictures)
        with closing(create_stream(Device(0))) as borrowed:
            done = []
            for stream in (borrowed, borrowed.handle):
                gpu.streams[borrowed.handle].append(lambda: done.append("work of the caller"))
                pipeline = opened(fakes.plan(), stream=stream)
                assert done == []
                assert pipeline.detect(pictures, 0.5, None) == expected
                assert done == ["work of the caller"]
                assert gpu.streams[borrowed.handle] == []
                pipeline.close()
                assert borrowed.handle in gpu.streams
                done.clear()
        assert gpu.leaks == {}

    @pytest.mark.parametrize(("stream", "error"), [(0x77, DeviceError), ("a stream", OptionError)])
    def test_invalid_stream(self, gpu, fakes, stream, error):
        with pytest.raises(error):
            opened(fakes.plan(), stream=stream)
        gc.collect()
        assert gpu.leaks == {}


class TestClosing:
    def test_close_waits_for_a_run(self, gpu, fakes):
        pipeline = opened(fakes.plan())
        pictures, found = images(2), []
        expected = pipeline.detect(pictures, 0.5, None)
        started, go_on = threading.Event(), threading.Event()
        with pipeline.borrow_slot() as slot:
            gpu.streams[slot._stream.handle].append(lambda: (started.set(), go_on.wait(10)))
        run = threading.Thread(target=lambda: found.extend(pipeline.detect(pictures, 0.5, None)))
        run.start()
        assert started.wait(10)
        closing = threading.Thread(target=pipeline.close)
        closing.start()
        assert gpu.engines == 1
        go_on.set()
        run.join()
        closing.join()
        assert found == expected
        assert gpu.leaks == {}

    def test_close_after_a_failure_raises_nothing(self, gpu, fakes):
        pipeline = opened(fakes.plan())
        gpu.fail("cuStreamSynchronize")
        gpu.fail("cuMemFree")
        with pytest.raises(BackendError):
            pipeline.detect(images(1), 0.5, None)
        pipeline.close()
        assert gpu.engines == 0
        assert gpu.pinned == {}

    def test_close_of_a_working_pipeline_raises_errors(self, gpu, fakes):
        pipeline = opened(fakes.plan())
        pipeline.detect(images(1), 0.5, None)
        gpu.fail("cuMemFree")
        with pytest.raises(BackendError, match="freeing memory failed"):
            pipeline.close()
        assert (gpu.engines, gpu.contexts, gpu.pinned) == (0, 0, {})
        pipeline.close()


class TestFailures:
    def test_no_stream(self, gpu, fakes):
        gpu.fail("cuStreamCreate", "CUDA_ERROR_OUT_OF_MEMORY")
        with pytest.raises(BackendError, match="making a CUDA stream failed"):
            opened(fakes.plan())
        gc.collect()
        assert gpu.leaks == {}

    @pytest.mark.parametrize("call", ["cuMemAlloc", "cuMemHostAlloc", "create_execution_context"])
    @pytest.mark.parametrize("after", [0, 1])
    def test_without_memory_a_smaller_batch_may_still_run(self, gpu, fakes, call, after):
        plan = fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))
        pictures = images(2)
        expected = faces_of(plan, pictures)
        pipeline = opened(plan)
        if call == "create_execution_context" and after:
            pipeline.detect(images(1), 0.5, None)
        gpu.fail(call, "CUDA_ERROR_OUT_OF_MEMORY", after=0 if call == "create_execution_context" else after)
        with pytest.raises(BackendError, match=r"CUDA_ERROR_OUT_OF_MEMORY|out of memory") as caught:
            pipeline.detect(images(4), 0.5, None)
        assert "\n" not in str(caught.value)
        del caught
        gpu.failing.clear()
        assert pipeline.detect(pictures, 0.5, None) == expected
        pipeline.close()
        gc.collect()
        assert gpu.leaks == {}

    @pytest.mark.parametrize(
        ("call", "is_captured"),
        [
            ("cuMemcpyAsync", False),
            ("cuLaunchKernel", False),
            ("execute_async_v3", False),
            ("cuStreamSynchronize", False),
            ("cuMemcpyAsync", True),
            ("cuGraphLaunch", True),
            ("cuStreamSynchronize", True),
        ],
    )
    def test_no_run_is_possible_after_a_failed_one(self, gpu, fakes, call, is_captured):
        pipeline = opened(fakes.plan())
        if is_captured:
            pipeline.detect(images(2), 0.5, None)
        gpu.fail(call)
        with pytest.raises(BackendError) as caught:
            pipeline.detect(images(2), 0.5, None)
        first = str(caught.value)
        assert "\n" not in first
        gpu.failing.clear()
        with pytest.raises(BackendError, match="this detector cannot be used; open a new one") as caught:
            pipeline.detect(images(2), 0.5, None)
        assert first in str(caught.value)
        del caught
        pipeline.close()
        gc.collect()
        assert gpu.leaks == {}

    def test_message_contains_the_reason_of_tensorrt(self, gpu, fakes):
        pipeline = opened(fakes.plan())
        gpu.fail("execute_async_v3")
        with pytest.raises(BackendError, match=r"the plan: running the model failed: Cuda Runtime \(no luck\)"):
            pipeline.detect(images(1), 0.5, None)
        pipeline.close()

    def test_interrupted_run_is_waited_for(self, gpu, fakes):
        pipeline = opened(fakes.plan())
        pictures = images(1)
        expected = pipeline.detect(pictures, 0.5, None)
        with pipeline.borrow_slot() as slot:
            stream = gpu.streams[slot._stream.handle]

        def interrupt():
            raise KeyboardInterrupt

        stream.append(interrupt)
        with pytest.raises(KeyboardInterrupt):
            pipeline.detect(images(1), 0.5, None)
        assert len(stream) > 0
        assert pipeline.detect(pictures, 0.5, None) == expected
        pipeline.close()
        gc.collect()
        assert gpu.leaks == {}
