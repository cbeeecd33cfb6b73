"""One target in this process: cases drawn by Hypothesis, until the time is up or one of them fails.

``fuzz_TARGET.py`` defines

- ``cases()``: returns the strategy; a case can be pickled;
- ``check(case)``: raises an error for a failure; ScrfdError with a message of one line is none;
- ``SECONDS`` and ``MEBIBYTES``: what a case may take.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import faulthandler
import json
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from mutations import File

from scrfd_trt.errors import ScrfdError

ROUND = 50
"""Cases drawn from one seed."""
HEADROOM = 2 << 30
"""Bytes of address space beyond what a case may take: threads reserve more than they use."""
MAX_FILES = 512
"""Open files: a target that leaks them fails soon."""


def check(target: ModuleType, case: Any) -> None:
    """Check a case; raise an error if it fails."""
    before = _status("VmRSS")
    _reset_peak()
    faulthandler.dump_traceback_later(target.SECONDS, exit=True)
    try:
        target.check(case)
    except ScrfdError as error:
        check_error(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    took = max(0, _status("VmHWM") - before) >> 10
    assert took <= target.MEBIBYTES, f"the case took {took} MiB of memory, more than {target.MEBIBYTES}"


def check_error(error: ScrfdError) -> None:
    """Raise AssertionError unless an error has one line and no allocation failed before it."""
    message = str(error)
    assert message, f"{type(error).__name__} without a message"
    assert len(message.splitlines()) == 1, f"a message of several lines: {message!r}"
    for cause in _causes(error):
        if type(cause).__module__.startswith("av."):  # FFmpeg's error for sizes that it refuses
            continue
        too_large = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        assert not too_large, f"the case asked for more memory than there is: {cause!r}"


def attempt(function: Callable[..., object], *arguments: Any) -> ScrfdError | None:
    """Call a function; return its ScrfdError, which is no failure if its message has one line."""
    try:
        function(*arguments)
    except ScrfdError as error:
        check_error(error)
        return error
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and all that led to it."""
    found, left = [], [error]
    while left:
        error = left.pop()
        if error not in found:
            found.append(error)
            left += [each for each in (error.__cause__, error.__context__) if each is not None]
    return found


def run_round(target: ModuleType, seed: int, *, folder: Path, end: float) -> tuple[int, str]:
    """Check cases drawn from a seed until one fails; return their number, and the failure's traceback."""
    done, failure = 0, ""

    @seeded(seed)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases())
    def one(case: Any) -> None:
        nonlocal done, failure
        if failure or (done and time.monotonic() > end):
            return
        save_case(case, folder)
        done += 1
        try:
            check(target, case)
        except Exception:  # noqa: BLE001 - every error is a failure
            failure = traceback.format_exc()

    one()
    return done, failure


def save_case(case: Any, folder: Path) -> None:
    """Write a case, and its files, so that they survive a crash of this process."""
    for path in folder.glob("case.*"):
        path.unlink()
    (folder / "case.pickle").write_bytes(pickle.dumps(case))
    for part in (case, *case) if isinstance(case, tuple) else ():
        if isinstance(part, File):
            (folder / f"case{Path(part.name).suffix}").write_bytes(part.content)


def limit(mebibytes: int) -> None:
    """Limit what this process may take beyond what it has now."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if size := _status("VmSize") << 10:
        most = size + HEADROOM + (mebibytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _status(field: str) -> int:
    """Return a size of this process in KiB; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0


def _reset_peak() -> None:
    """Let VmHWM start again from the memory in use; without this, it keeps the peak of earlier cases."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Run rounds, or one saved case again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--repeat", action="store_true")
    args = parser.parse_args()
    target = import_module(f"fuzz_{args.target}")
    if reason := getattr(target, "missing", ""):
        sys.exit(reason)
    target.cases()  # makes the samples before memory is limited
    limit(target.MEBIBYTES)
    if args.repeat:
        case = pickle.loads((args.folder / "case.pickle").read_bytes())
        print(f"{case!r:.2000}", flush=True)
        check(target, case)
        return
    end, seed, cases = time.monotonic() + args.seconds, args.seed, 0
    while not cases or time.monotonic() < end:
        os.ftruncate(sys.stderr.fileno(), 0)  # only the output of the last round is kept
        save_state(args.folder, seed, cases, end)
        done, failure = run_round(target, seed, folder=args.folder, end=end)
        cases += done
        save_state(args.folder, seed, cases, end)
        if failure:
            sys.exit(failure)
        seed += 1


def save_state(folder: Path, seed: int, cases: int, end: float) -> None:
    """Write what the runner needs to know after a crash: the seed, the number of cases, and the seconds left."""
    (folder / "state.json").write_text(json.dumps([seed, cases, end - time.monotonic()]))


if __name__ == "__main__":
    main()
