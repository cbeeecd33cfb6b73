from __future__ import annotations

import gc
import logging
import threading

import cv2
import numpy as np
import pytest

from scrfd_trt import BackendError, DetectorOptions, ModelFormatError, OptionError
from scrfd_trt._letterbox import FREE_SCALES, PADDING, Letterbox, normalize_into
from scrfd_trt._passes import View
from scrfd_trt._pipelines import host
from scrfd_trt._pipelines.host import Blob, BlobPool, HostPipeline
from scrfd_trt._pipelines.profiles import choose_scales
from scrfd_trt._pipelines.streaming import in_order
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends import OnnxBackend

RNG = np.random.default_rng(0)


def image(width, height):
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "requested", "scales"),
    [
        ((None, 3, None, None), None, FREE_SCALES),
        ((1, 3, 640, 640), None, ((640, 640),)),
        ((1, 3, 384, 640), None, ((640, 384),)),
        ((None, 3, 384, None), None, ((640, 384),)),
        ((None, 3, None, None), ((320, 320),), ((320, 320),)),
        ((1, 3, 384, 640), ((640, 384),), ((640, 384),)),
    ],
)
def test_scales_follow_the_model_and_the_request(shape, requested, scales):
    assert choose_scales(shape, requested) == scales


def test_model_of_fixed_size_rejects_other_scales():
    with pytest.raises(OptionError, match="fixed at 640×640 pixels and cannot run at 128×128"):
        choose_scales((1, 3, 640, 640), ((640, 640), (128, 128)))


def profile(min_batch, opt_batch, max_batch, side, largest=None):
    """Return a profile of one square size, or of sizes from ``side`` to ``largest``, tuned for ``largest``."""
    largest = largest or side
    return ShapeRange((min_batch, 3, side, side), (opt_batch, 3, largest, largest), (max_batch, 3, largest, largest))


SMALL, LARGE, ONE = profile(1, 8, 32, 128), profile(1, 8, 16, 640), profile(1, 1, 1, 640)


@pytest.mark.parametrize(
    ("ranges", "requested", "scales"),
    [
        ((LARGE, ONE), None, ((640, 640),)),
        ((LARGE, SMALL, ONE), None, ((128, 128), (640, 640))),
        ((profile(1, 4, 8, 64, 640),), None, ((128, 128), (640, 640))),
        ((profile(1, 4, 8, 64, 96),), None, ((96, 96),)),
        ((profile(1, 4, 8, 64, 640),), ((320, 96),), ((320, 96),)),
        ((LARGE, SMALL), ((128, 128),), ((128, 128),)),
    ],
)
def test_scales_follow_the_optimization_profiles(ranges, requested, scales):
    assert choose_scales((None, 3, None, None), requested, ranges) == scales


def test_size_without_profile_is_rejected():
    with pytest.raises(OptionError, match=r"320×320; its inputs .* are: 1…32×3×128×128, 1…16×3×640×640; leave"):
        choose_scales((None, 3, None, None), ((640, 640), (320, 320)), (SMALL, LARGE))


class Brightness:
    """A model of free size without landmarks: the score of a cell is the brightness of its pixel."""

    description = "fake"

    def __init__(self, batch=None, kind="batched", sides=(None, None), ranges=()):
        self.input = TensorSpec("x", (batch, 3, *sides))
        lead = (None, None) if kind == "batched" else (None,)
        self.outputs = [TensorSpec(f"{n}_{s}", (*lead, w)) for n, w in (("score", 1), ("bbox", 4)) for s in (8, 16, 32)]
        self.ranges = ranges
        self.kind = kind
        self.seen = []
        self.closed = False

    def run(self, blob):
        self.seen.append(blob.shape)
        rows = [blob[:, 1, ::stride, ::stride].reshape(len(blob), -1).repeat(2, axis=1) for stride in (8, 16, 32)]
        found = [((part + 1) / 2).clip(0, 1)[..., None] for part in rows]
        found += [np.ones((*part.shape, 4), np.float32) for part in rows]
        return found if self.kind == "batched" else [output[0] for output in found]

    def close(self):
        self.closed = True


def pipeline(backend, **options):
    return HostPipeline(backend, DetectorOptions(**options))


def test_two_passes_share_one_nms():
    backend = Brightness()
    both = pipeline(backend, iou=0.02)
    one, small = pipeline(backend, scales=640, iou=0.02), pipeline(backend, scales=128, iou=0.02)
    pictures = [image(100, 80)]
    found = both.detect(pictures, 0.9, None)[0]
    parts = [part.detect(pictures, 0.9, None)[0] for part in (one, small)]
    assert {tuple(box) for box in found.boxes} <= {tuple(box) for part in parts for box in part.boxes}
    assert 0 < len(found) < sum(map(len, parts))
    assert backend.seen[:2] == [(1, 3, 128, 128), (1, 3, 544, 640)]


def test_padding_is_cut_off_and_inputs_of_one_size_run_together():
    backend = Brightness()
    pictures = [image(*size) for size in [(160, 90), (90, 160), (1, 1), (320, 180), (90, 160), (900, 9), (480, 270)]]
    found = pipeline(backend, scales=[64, 320]).detect(pictures, 0.8, None)
    assert [shape[0] for shape in backend.seen if shape[2:] == (64, 64)] == [7]
    assert backend.seen[1:] == [(3, 3, 224, 320), (2, 3, 320, 224), (1, 3, 320, 320), (1, 3, 32, 320)]
    alone = pipeline(Brightness(), scales=[64, 320])
    assert found == [alone.detect([picture], 0.8, None)[0] for picture in pictures]
    whole = HostPipeline(Brightness(), DetectorOptions(scales=[64, 320]), cut_padding=False)
    assert found == whole.detect(pictures, 0.8, None)  # this model looks at no neighbours


@pytest.mark.parametrize(
    ("sides", "ranges", "cut"),
    [
        ((None, None), (), True),
        ((320, 320), (), False),
        ((None, 320), (), False),
        ((None, None), (profile(1, 4, 8, 320),), False),
    ],
)
def test_only_models_of_free_size_are_cut(sides, ranges, cut):
    backend = Brightness(sides=sides, ranges=ranges)
    host = pipeline(backend, scales=320)
    host.detect([image(90, 16)], 0.9, None)
    assert host.cuts_padding is cut
    assert host.scales == ((320, 320),)
    assert backend.seen == [(1, 3, 96 if cut else 320, 320)]


def test_split_batches_give_the_same_faces():
    pictures = [image(width, height) for width, height in [(64, 64), (30, 90), (200, 64), (64, 200), (1, 1)]]
    alone, together = Brightness(), Brightness()
    expected = [pipeline(alone, scales=64).detect([picture], 0.8, None)[0] for picture in pictures]
    assert pipeline(together, scales=64, max_batch=2).detect(pictures, 0.8, None) == expected
    assert [shape[0] for shape in together.seen] == [2, 2, 1]
    assert pipeline(Brightness(), scales=64).detect(pictures, 0.8, None) == expected
    assert pipeline(together, scales=64).detect([], 0.8, None) == []


def test_fixed_batch_is_padded():
    backend = Brightness(batch=4)
    pictures = [image(64, 64) for _ in range(5)]
    found = pipeline(backend, scales=64).detect(pictures, 0.8, None)
    assert [shape[0] for shape in backend.seen] == [4, 4]
    assert found == [pipeline(Brightness(), scales=64).detect([picture], 0.8, None)[0] for picture in pictures]


def test_each_scale_is_split_by_its_own_profile():
    backend = Brightness(ranges=(profile(1, 2, 3, 32), profile(1, 2, 2, 64)))
    pictures = [image(64 + n, 64) for n in range(5)]
    found = pipeline(backend).detect(pictures, 0.8, None)
    assert backend.seen == [(3, 3, 32, 32), (2, 3, 32, 32), (2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 64)]
    alone = pipeline(Brightness(), scales=(32, 64))
    assert found == [alone.detect([picture], 0.8, None)[0] for picture in pictures]


def test_flat_model_runs_one_image_at_a_time():
    backend = Brightness(kind="flat")
    assert len(pipeline(backend, scales=64).detect([image(64, 64)] * 3, 0.8, None)) == 3
    assert [shape[0] for shape in backend.seen] == [1, 1, 1]


def test_later_calls_do_not_change_results():
    host = pipeline(Brightness(), scales=64)
    first = host.detect([image(64, 64)], 0.7, None)[0]
    kept = first.boxes.copy(), first.scores.copy()
    host.detect([image(64, 64)], 0.7, None)
    assert np.array_equal(first.boxes, kept[0])
    assert np.array_equal(first.scores, kept[1])
    assert first.boxes.flags.writeable
    assert first.landmarks is None


def test_max_faces_keeps_the_best():
    host, picture = pipeline(Brightness(), scales=64), image(64, 64)
    every = host.detect([picture], 0.5, None)[0]
    assert host.detect([picture], 0.5, 3)[0] == every[:3]


def test_threads_get_the_same_faces_as_one_thread():
    host = pipeline(Brightness(), scales=(64, 96))
    pictures = [image(40 + 7 * n, 90 - 5 * n) for n in range(8)]
    expected = [host.detect([picture], 0.7, None)[0] for picture in pictures]
    wrong: list[int] = []

    def work(start):
        numbers = range(start, start + 40)
        wrong.extend(n for n in numbers if host.detect([pictures[n % 8]], 0.7, None)[0] != expected[n % 8])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_models_are_recognised_by_their_rows():
    class Wrong(Brightness):
        def run(self, blob):
            return [output[:, :-1] for output in super().run(blob)]

    class TooMany(Brightness):
        def run(self, blob):
            return [np.concatenate([output, output[:, :1]], axis=1) for output in super().run(blob)]

    class TooFew(Brightness):
        def run(self, blob):
            return super().run(blob)[:-1]

    for backend in (Wrong(), TooMany(), TooFew()):
        with pytest.raises(ModelFormatError, match="not a SCRFD model"):
            pipeline(backend, scales=64).detect([image(64, 64)], 0.5, None)


def test_image_too_narrow_for_the_model_logs_a_warning(caplog):
    host = pipeline(Brightness(), scales=64)
    with caplog.at_level(logging.WARNING, "scrfd_trt"):
        assert host.detect([np.zeros((1, 100_000, 3), np.uint8)], 0.9, None)[0].image_size == (100_000, 1)
    assert [record.getMessage().count("100000×1") for record in caplog.records] == [1]
    caplog.clear()
    host.detect([image(1, 1), image(64, 9), image(4, 60)], 0.9, None)
    assert not caplog.records


def fill(blob, shape, box, *pictures):
    return blob.take(shape).fill([(picture, View((0, 0, *box.source), 0, box)) for picture in pictures], "bgr")


def test_reused_blob_keeps_nothing_of_the_previous_image():
    blob, fresh = Blob(2 * 3 * 64 * 64), np.empty((3, 64, 64), np.float32)
    for size in [(64, 64), (64, 20), (64, 20), (20, 64), (64, 64), (10, 64)]:
        picture = image(*size)
        box = Letterbox.fit(size, (64, 64))
        array = fill(blob, (2, 3, 64, 64), box, picture)
        normalize_into(fresh, picture, box)
        assert np.array_equal(array[0], fresh)
    assert not array[1].any()


def test_blob_holds_inputs_of_several_sizes():
    blob = Blob(2 * 3 * 320 * 320)
    for size in [(32, 20), (20, 32), (32, 9), (32, 20), (32, 9)]:
        pictures, box = [image(*size), image(*size)], Letterbox.fit(size, (320, 320)).cut()
        fresh = np.empty((2, 3, *box.target[::-1]), np.float32)
        for planes, picture in zip(fresh, pictures, strict=True):
            normalize_into(planes, picture, box)
        assert np.array_equal(fill(blob, fresh.shape, box, *pictures), fresh)


def test_failed_fill_does_not_affect_the_next():
    blob, fresh = Blob(3 * 64 * 64), np.empty((3, 64, 64), np.float32)
    low, high = image(64, 20), image(20, 64)
    fill(blob, (1, 3, 64, 64), Letterbox.fit((64, 20), (64, 64)), low)
    with pytest.raises(ValueError, match="zip"):
        fill(blob, (1, 3, 64, 64), Letterbox.fit((20, 64), (64, 64)), np.zeros((64, 20), np.uint8))
    for picture, size in ((high, (20, 64)), (low, (64, 20))):
        box = Letterbox.fit(size, (64, 64))
        array = fill(blob, (1, 3, 64, 64), box, picture)
        normalize_into(fresh, picture, box)
        assert np.array_equal(array[0], fresh)


def test_pool_lends_each_blob_once():
    pool = BlobPool()
    with pool.borrow((1, 3, 32, 32)) as one, pool.borrow((1, 3, 32, 32)) as other:
        assert one is not other
    with pool.borrow((1, 3, 32, 32)) as again:
        assert again in (one, other)
    pool.clear()
    with pool.borrow((1, 3, 32, 32)) as new:
        assert new not in (one, other)
    assert pytest.approx(-127.5 / 128) == PADDING


@pytest.fixture
def on_cores(monkeypatch, network_500m):
    """A pipeline on three cores."""
    monkeypatch.setattr(host, "usable_cores", lambda: 3)
    opened = HostPipeline(OnnxBackend(network_500m), DetectorOptions(scales=[32, 64], max_batch=4))
    yield opened
    opened.close()


def test_images_on_cores_of_their_own_give_the_same_faces(on_cores):
    pictures = [image(64 - 7 * number, 50) for number in range(5)]
    expected = [on_cores.detect([picture], 0.02, None)[0] for picture in pictures]
    assert sum(map(len, expected)) > 0
    assert on_cores._on_cores(pictures[:1], 0.02, None) is None
    assert on_cores.detect(pictures, 0.02, None) == expected
    assert on_cores.start(pictures[:4], 0.02, None).result() == expected[:4]
    assert on_cores.submit(pictures, 0.02, None).result() == expected


def test_one_image_does_not_wait_for_those_of_a_stream(on_cores):
    go_on, pictures = threading.Event(), [image(64, 50)]
    expected = on_cores.detect(pictures, 0.02, None)
    busy = [on_cores._spread.submit(go_on.wait, 30) for _ in range(4)]
    assert on_cores.detect(pictures, 0.02, None) == expected
    assert not any(each.done() for each in busy)
    go_on.set()


def test_garbage_collector_drops_a_stream_in_a_thread_that_it_needs():
    are_read, go_on, is_collected = (threading.Event() for _ in range(3))

    class Collecting(Brightness):
        def run(self, blob):
            assert are_read.wait(30)
            if len(self.seen) == 1:
                assert go_on.wait(30)
                gc.collect()
                is_collected.set()
            return super().run(blob)

    def images():
        yield from [image(8, 8)] * 2
        are_read.set()
        yield from [image(8, 8)] * 2

    opened = pipeline(Collecting(), scales=32)
    results = in_order(lambda group: opened.start(group, 0.5, None), images(), 1, 3)
    next(results)
    cycle = [results]
    cycle.append(cycle)
    del cycle, results
    go_on.set()
    assert is_collected.wait(10)
    opened.close()


def test_close_closes_the_backend():
    backend = Brightness()
    pipeline(backend).close()
    assert backend.closed


class Failing(Brightness):
    """A backend whose run raises an error, or returns something."""

    def __init__(self, outcome):
        super().__init__()
        self.outcome = outcome

    def run(self, blob):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome(super().run(blob)) if callable(self.outcome) else self.outcome


NO_MEMORY = cv2.error("(-4:Insufficient memory) Failed to allocate 5 bytes in function 'OutOfMemoryError'")


@pytest.mark.parametrize("error", [MemoryError(), NO_MEMORY, cv2.error("std::bad_alloc")])
@pytest.mark.parametrize("how", ["detect", "submit", "start"])
def test_lack_of_memory_is_a_backend_error(error, how):
    failing = pipeline(Failing(error), scales=64)
    call = getattr(failing, how)
    with pytest.raises(BackendError, match="not enough memory; use smaller images"):
        call([image(64, 64)], 0.5, None) if how == "detect" else call([image(64, 64)], 0.5, None).result(30)
    failing.close()


def test_other_errors_of_opencv_are_backend_errors():
    with pytest.raises(BackendError, match="OpenCV failed: odd"):
        pipeline(Failing(cv2.error("odd")), scales=64).detect([image(64, 64)], 0.5, None)


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        5,
        [],
        "outputs",
        [None] * 6,
        [1.5] * 6,
        [np.zeros((1, 2), np.float32)] * 6,
        lambda outputs: outputs[:5],
        lambda outputs: [*outputs, outputs[0]],
        lambda outputs: [output.astype(np.int64) for output in outputs],
        lambda outputs: [output.astype(object) for output in outputs],
        lambda outputs: [output[..., 0] for output in outputs],
        lambda outputs: [output.reshape(1, output.shape[2], output.shape[1]) for output in outputs],
        lambda outputs: [output[:, ::2] for output in outputs],
        lambda outputs: [output.reshape(-1, 1, 1) for output in outputs],
        lambda outputs: [output[:0] for output in outputs],
    ],
)
def test_absurd_outputs_of_a_backend_are_rejected(outcome):
    with pytest.raises((BackendError, ModelFormatError)) as caught:
        pipeline(Failing(outcome), scales=64).detect([image(64, 64)], 0.01, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2**32 - 1, 3, 64, 64), (1025, 3, 64, 64), (1, 3, 64, 2**40), (None, 3, 8193, None)])
def test_inputs_that_would_take_any_amount_of_memory_are_rejected(shape):
    with pytest.raises(ModelFormatError, match="this model is fixed at an input of"):
        choose_scales(shape, None)


@pytest.mark.parametrize("shape", [(), (3, 64, 64), (1, 3, 64, 64, 1)])
def test_input_of_another_number_of_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFormatError, match=rf"^the model's input has {len(shape)} axes"):
        choose_scales(shape, ((64, 64),))
