from __future__ import annotations

import subprocess
import sys
from threading import Event, Thread

import pytest

from scrfd_trt.locking import lock, lock_if_free

HOLD = """
import sys
from pathlib import Path
from scrfd_trt.locking import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def waiting(tmp_path):
    """Start a thread that locks, and return events: about to lock, and locked."""
    threads = []

    def start():
        ready, locked = Event(), Event()

        def run():
            ready.set()
            with lock(tmp_path / ".lock"):
                locked.set()

        threads.append(Thread(target=run))
        threads[-1].start()
        assert ready.wait(10)
        return locked

    yield start
    for thread in threads:
        thread.join(10)


def test_a_second_thread_waits(tmp_path, waiting):
    with lock(tmp_path / ".lock"):
        locked = waiting()
        assert not locked.wait(0.3)
    assert locked.wait(10)


def test_the_lock_is_free_after_an_error(tmp_path, waiting):
    with pytest.raises(KeyError), lock(tmp_path / ".lock"):
        raise KeyError
    assert waiting().wait(10)


def test_another_process_holds_the_lock_until_it_is_killed(tmp_path, waiting):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"locked"
        locked = waiting()
        assert not locked.wait(0.3)
        holder.kill()
    assert locked.wait(10)


def test_who_does_not_want_to_wait_is_told(tmp_path):
    with lock_if_free(tmp_path / ".lock") as held, lock_if_free(tmp_path / ".lock") as also:
        assert (held, also) == (True, False)
    with lock_if_free(tmp_path / ".lock") as again:
        assert again
