"""Atomic writes, and locks between processes."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from scrfd_trt._files import (
    atomic_file,
    atomic_path,
    check_target,
    locked,
    locked_if_free,
    temporary_folder,
    write_files,
)
from scrfd_trt.errors import OptionError, OutputError

posix_only = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
not_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")

HOLD = """
import sys
from pathlib import Path
from scrfd_trt._files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fill_disk(number: int) -> None:
    raise OSError(28, "No space left on device")


def test_check_target(tmp_path: Path) -> None:
    check_target(tmp_path / "new.plan", overwrite=False)
    (tmp_path / "old.plan").touch()
    check_target(tmp_path / "old.plan", overwrite=True)
    with pytest.raises(OptionError, match="already exists; name another file, or pass overwrite=True"):
        check_target(tmp_path / "old.plan", overwrite=False)
    with pytest.raises(OptionError, match="there is no folder"):
        check_target(tmp_path / "no" / "new.plan", overwrite=True)
    with pytest.raises(OptionError, match="a folder or device is there"):
        check_target(tmp_path.parent / tmp_path.name, overwrite=True)


@not_root
def test_check_target_rejects_a_write_protected_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match=r"cannot write .*new\.plan: the folder is write-protected"):
        check_target(tmp_path / "new.plan", overwrite=False)
    tmp_path.chmod(0o755)


def test_target_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, FileNotFoundError])
def test_error_in_the_block_leaves_the_target_unchanged(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error) as caught:
        write()
    assert not isinstance(caught.value, OutputError)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("opens", [atomic_path, atomic_file])
def test_existing_file_is_kept_without_overwrite(tmp_path: Path, opens: Callable) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with pytest.raises(OptionError, match="already exists"), opens(path):
        pytest.fail("it was opened")
    assert path.read_bytes() == b"old"


def test_file_created_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(OptionError, match="written by another program meanwhile"), atomic_file(path):
        path.write_bytes(b"other")
    assert path.read_bytes() == b"other"
    assert names(tmp_path) == ["clip.mp4"]


def refuse_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@posix_only
def test_file_is_written_where_hard_links_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    with atomic_file(tmp_path / "new") as file:
        file.write(b"whole")
    with (
        pytest.raises(OptionError, match="written by another program meanwhile"),
        atomic_file(tmp_path / "other") as file,
    ):
        (tmp_path / "other").symlink_to("nowhere")
    assert (tmp_path / "new").read_bytes() == b"whole"
    assert names(tmp_path) == ["new", "other"]
    assert not (tmp_path / "nowhere").exists()


@posix_only
def test_nothing_is_left_if_the_file_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    monkeypatch.setattr(Path, "replace", refuse_links)
    with pytest.raises(OutputError, match="Operation not permitted"), atomic_file(tmp_path / "new"):
        pass
    assert names(tmp_path) == []


@posix_only
def test_link_that_a_repeated_request_finds_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    with atomic_file(tmp_path / "new") as file:
        file.write(b"whole")
    assert names(tmp_path) == ["new"]


TRIES = 100


def write_each(folder: Path, writer: int, barrier: object, results: object) -> None:
    """Write the same files as another process, at the same time, and report which writes succeeded."""
    succeeded = []
    for number in range(TRIES):
        try:
            with atomic_file(folder / str(number)) as file:
                file.write(b"%d" % writer)
                barrier.wait(20)
        except OptionError:
            continue
        succeeded.append(number)
    results.put((writer, succeeded))


@posix_only
@pytest.mark.parametrize("links", [True, False])
def test_one_of_two_processes_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    writers = [context.Process(target=write_each, args=(tmp_path, number, barrier, results)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    succeeded = dict(results.get(timeout=120) for _ in writers)
    for writer in writers:
        writer.join(120)
    assert sorted(succeeded[1] + succeeded[2]) == list(range(TRIES))
    for writer, numbers in succeeded.items():
        assert {(tmp_path / str(number)).read_bytes() for number in numbers} <= {b"%d" % writer}
    assert len(names(tmp_path)) == TRIES


def test_no_writable_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.setattr("scrfd_trt._files.SHARED_MEMORY", tmp_path / "nowhere")
    with pytest.raises(OutputError, match="set the environment variable TMPDIR"), temporary_folder():
        pytest.fail("it was made")
    with temporary_folder(beside=tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".scrfd-trt-")
    assert names(tmp_path) == []


@posix_only
def test_name_too_long_is_found_before_the_block(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with (
            pytest.raises(OutputError, match="File name too long"),
            atomic_path(tmp_path / ("x" * 256), overwrite=overwrite),
        ):
            pytest.fail("the block began")


def test_folder_is_rejected_before_the_block(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a folder or device is there"), atomic_path(tmp_path, overwrite=True):
        pytest.fail("it was opened")


@posix_only
def test_device_is_not_replaced() -> None:
    with pytest.raises(OptionError, match="a folder or device is there"), atomic_file(Path(os.devnull), overwrite=True):
        pytest.fail("it was opened")


def test_error_of_the_operating_system_names_the_target(tmp_path: Path) -> None:
    path = tmp_path / "no" / "faces.csv"
    with (
        pytest.raises(OptionError, match=r"^cannot write .*faces\.csv: there is no folder .*no; create"),
        atomic_file(path),
    ):
        pytest.fail("it was opened")
    with (
        pytest.raises(OutputError, match=r"^cannot write .*clip\.mp4: No such file"),
        atomic_path(tmp_path / "clip.mp4"),
    ):
        pass  # nothing is written


@posix_only
def test_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "original").write_bytes(b"old")
    (tmp_path / "link").symlink_to("original")
    with atomic_file(tmp_path / "link", overwrite=True) as file:
        file.write(b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"new"
    assert (tmp_path / "original").read_bytes() == b"old"


@posix_only
def test_dangling_link_is_an_existing_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OptionError, match="already exists"), atomic_path(tmp_path / "link"):
        pytest.fail("it was opened")
    with atomic_path(tmp_path / "link", overwrite=True) as temporary:
        temporary.touch()
    assert names(tmp_path) == ["link"]


@posix_only
def test_permissions_follow_the_umask_or_the_replaced_file(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o604)
    before = os.umask(0o027)
    try:
        write_files({new: b"1", old: b"2"})
    finally:
        os.umask(before)
    assert (mode(new), mode(old)) == (0o640, 0o604)


def test_files_are_replaced_completely(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")
    write_files({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert names(tmp_path) == ["a", "b"]


@posix_only
def test_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_files({tmp_path / "a": b"1"})
    assert mode(tmp_path / "a") == mode(tmp_path / "other")


def test_existing_file_is_not_replaced_with_others(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(OptionError, match="already exists"):
        write_files({tmp_path / "a": b"1", tmp_path / "b": b"2"}, overwrite=False)
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"old"


def test_failed_write_leaves_all_files_unchanged(tmp_path: Path) -> None:
    first = tmp_path / "a"
    first.write_text("old")
    with pytest.raises(OptionError, match="cannot write"):
        write_files({first: b"1", tmp_path / "no" / "b": b"2"})
    assert first.read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("others", [{}, {"b": b"2"}])
def test_full_disk_leaves_all_files_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: dict) -> None:
    first = tmp_path / "a"
    first.write_text("old")
    monkeypatch.setattr(os, "fsync", fill_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        write_files({first: b"1", **{tmp_path / name: data for name, data in others.items()}})
    assert first.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_no_file_is_replaced_before_all_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.write_text("old")
    calls = []

    def fill_disk_at_the_second_file(number: int) -> None:
        calls.append(number)
        if len(calls) == 2:
            fill_disk(number)

    monkeypatch.setattr(os, "fsync", fill_disk_at_the_second_file)
    with pytest.raises(OutputError, match=r"cannot write .*b: No space left on device"):
        write_files({first: b"1", second: b"2"})
    assert (first.read_text(), second.read_text()) == ("old", "old")
    assert names(tmp_path) == ["a", "b"]


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[[], Event]]:
    """Start a thread that locks; return the event that is set once it holds the lock."""
    threads = []

    def start() -> Event:
        ready, held = Event(), Event()

        def run() -> None:
            ready.set()
            with locked(tmp_path / ".lock"):
                held.set()

        threads.append(Thread(target=run))
        threads[-1].start()
        assert ready.wait(10)
        return held

    yield start
    for thread in threads:
        thread.join(120)


def test_second_thread_waits(tmp_path: Path, waiting: Callable[[], Event], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scrfd_trt")
    with locked(tmp_path / ".lock"):
        held = waiting()
        assert not held.wait(0.3)
        assert f"waiting for another process to finish with {tmp_path}" in caplog.text
    assert held.wait(10)


def test_free_lock_is_acquired_without_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with locked(tmp_path / ".lock"):
        pass
    assert not caplog.records


def test_lock_is_free_after_an_error(tmp_path: Path, waiting: Callable[[], Event]) -> None:
    with pytest.raises(KeyError), locked(tmp_path / ".lock"):
        raise KeyError
    assert waiting().wait(10)


def test_another_process_holds_the_lock_until_it_is_killed(tmp_path: Path, waiting: Callable[[], Event]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"locked"
        with locked_if_free(tmp_path / ".lock") as free:
            assert not free
        held = waiting()
        assert not held.wait(0.3)
        holder.kill()
    assert held.wait(10)


def test_locked_if_free_does_not_wait(tmp_path: Path) -> None:
    with locked_if_free(tmp_path / ".lock") as held, locked_if_free(tmp_path / ".lock") as also:
        assert (held, also) == (True, False)
    with locked_if_free(tmp_path / ".lock") as again:
        assert again


def test_another_thread_may_release_the_lock(tmp_path: Path) -> None:
    context = locked_if_free(tmp_path / ".lock")
    thread = Thread(target=context.__enter__)
    thread.start()
    thread.join(120)
    with locked_if_free(tmp_path / ".lock") as held:
        assert not held
    context.__exit__(None, None, None)
    with locked_if_free(tmp_path / ".lock") as held:
        assert held


def test_lock_that_cannot_be_created_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / ".lock"):
        pytest.fail("it was locked")
    assert names(tmp_path) == ["file"]


@not_root
def test_lock_in_a_write_protected_folder_raises(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError), locked(tmp_path / ".lock"):
        pytest.fail("it was locked")
    tmp_path.chmod(0o755)


@posix_only
def test_umask_may_give_other_users_access_to_the_lock_file(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with locked(tmp_path / ".lock"):
            assert mode(tmp_path / ".lock") == 0o664
    finally:
        os.umask(before)
