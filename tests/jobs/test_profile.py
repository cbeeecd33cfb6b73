"""The times of stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from scrfd_trt._jobs.profile import measured, measured_items, profiled


def test_stages_of_all_threads_are_summed() -> None:
    def draw() -> None:
        with measured("draw"):
            time.sleep(0.02)

    with measured("draw"):  # nothing is measured outside
        pass
    with profiled() as profile:
        threads = [threading.Thread(target=draw) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = profile.elapsed
    draw()
    assert set(profile.seconds) == {"draw"}
    assert 0.06 <= profile.seconds["draw"] <= 3 * elapsed


def test_the_time_between_items_is_not_counted() -> None:
    def items() -> Iterator[int]:
        yield from (time.sleep(0.01) or each for each in range(3))

    with profiled() as profile:
        for _ in measured_items("decode", items()):
            time.sleep(0.02)
        elapsed = profile.elapsed
    assert 0.03 <= profile.seconds["decode"] <= elapsed - 0.06
