from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from scrfd_trt import BackendError, ClosedError, ModelFormatError, ModelNotFoundError
from scrfd_trt.backends.tensorrt import TensorRTBackend

RNG = np.random.default_rng(0)


def blob(images, side=64):
    return RNG.uniform(-1, 1, (images, 3, side, side)).astype(np.float32)


def same(found, wanted, **tolerance):
    return len(found) == len(wanted) and all(
        a.shape == b.shape and np.allclose(a, b, **tolerance) for a, b in zip(found, wanted, strict=True)
    )


class TestClosing:
    def test_a_closed_one_says_so(self, gpu, fakes):
        backend = TensorRTBackend(fakes.plan())
        backend.run(blob(1))
        backend.close()
        backend.close()
        assert gpu.leaks == {}
        with pytest.raises(ClosedError, match="the network was closed; open it again"):
            backend.run(blob(1))

    def test_it_waits_for_a_run_under_way(self, gpu, fakes, expected):
        backend = TensorRTBackend(fakes.plan())
        given, found = blob(2), []
        started, go_on = threading.Event(), threading.Event()
        gpu.streams[backend._stream.handle].append(lambda: (started.set(), go_on.wait(10)))
        run = threading.Thread(target=lambda: found.extend(backend.run(given)))
        run.start()
        assert started.wait(10)
        closing = threading.Thread(target=backend.close)
        closing.start()
        assert gpu.engines == 1
        go_on.set()
        run.join()
        closing.join()
        assert same(found, expected(given))
        assert gpu.leaks == {}

    def test_it_is_put_right_after_a_failed_opening(self, gpu, fakes):
        gpu.fail("cuStreamCreate", "CUDA_ERROR_OUT_OF_MEMORY")
        with pytest.raises(BackendError, match="making a CUDA stream failed"):
            TensorRTBackend(fakes.plan())
        gc.collect()
        assert gpu.leaks == {}

    @pytest.mark.parametrize("data", ["missing.plan", b"no plan", bytes(100)])
    def test_what_cannot_be_opened(self, gpu, data):
        with pytest.raises((ModelNotFoundError, ModelFormatError)):
            TensorRTBackend(data)
        assert gpu.calls == []


class TestFailures:
    @pytest.mark.parametrize("call", ["cuMemAlloc", "cuMemHostAlloc", "create_execution_context"])
    @pytest.mark.parametrize("after", [0, 1])
    def test_without_memory_a_smaller_batch_may_still_run(self, gpu, fakes, expected, call, after):
        with TensorRTBackend(fakes.plan(profiles=fakes.ranges((1, 2, 4), (1, 1, 1)))) as backend:
            if call == "create_execution_context" and after:
                backend.run(blob(1))
            gpu.fail(call, "CUDA_ERROR_OUT_OF_MEMORY", after=0 if call == "create_execution_context" else after)
            with pytest.raises(BackendError, match=r"CUDA_ERROR_OUT_OF_MEMORY|out of memory") as caught:
                backend.run(blob(4))
            assert "\n" not in str(caught.value)
            del caught
            gpu.failing.clear()
            given = blob(2)
            assert same(backend.run(given), expected(given))
        gc.collect()
        assert gpu.leaks == {}

    @pytest.mark.parametrize(
        "call", ["cuMemcpyHtoDAsync", "execute_async_v3", "cuMemcpyDtoHAsync", "cuStreamSynchronize"]
    )
    def test_after_a_failed_run_it_must_be_opened_again(self, gpu, fakes, call):
        with TensorRTBackend(fakes.plan()) as backend:
            backend.run(blob(1))
            gpu.fail(call)
            with pytest.raises(BackendError) as caught:
                backend.run(blob(1))
            first = str(caught.value)
            assert "\n" not in first
            gpu.failing.clear()
            with pytest.raises(BackendError, match="nothing can be run until it is opened again") as caught:
                backend.run(blob(1))
            assert first in str(caught.value)
            del caught
        gc.collect()
        assert gpu.leaks == {}

    def test_tensorrts_own_reason_is_told(self, gpu, fakes):
        with TensorRTBackend(fakes.plan()) as backend:
            gpu.fail("execute_async_v3")
            with pytest.raises(BackendError, match=r"the plan: running the network failed: Cuda Runtime \(no luck\)"):
                backend.run(blob(1))

    def test_closing_a_broken_one_is_quiet(self, gpu, fakes):
        backend = TensorRTBackend(fakes.plan())
        gpu.fail("cuStreamSynchronize")
        gpu.fail("cuMemFree")
        with pytest.raises(BackendError):
            backend.run(blob(1))
        backend.close()
        assert gpu.engines == 0
        assert gpu.pinned == {}

    def test_closing_a_sound_one_is_not(self, gpu, fakes):
        backend = TensorRTBackend(fakes.plan())
        backend.run(blob(1))
        gpu.fail("cuMemFree")
        with pytest.raises(BackendError, match="giving GPU memory back failed"):
            backend.close()
        assert (gpu.engines, gpu.contexts, gpu.pinned) == (0, 0, {})
        backend.close()

    def test_an_interrupted_run_is_waited_for(self, gpu, fakes, expected):
        with TensorRTBackend(fakes.plan()) as backend:
            backend.run(blob(1))
            stream = gpu.streams[backend._stream.handle]

            def interrupt():
                raise KeyboardInterrupt

            stream.append(interrupt)
            with pytest.raises(KeyboardInterrupt):
                backend.run(blob(1))
            assert len(stream) == 3
            given = blob(1)
            assert same(backend.run(given), expected(given))
        gc.collect()
        assert gpu.leaks == {}
