"""Run the fuzzers: ``python tests/fuzz/run.py [--minutes 2] [--seed N] [--repeat FOLDER] [TARGET ...]``.

A target is a module ``fuzz_TARGET.py`` beside this file. The targets share the time evenly. Each runs in a process of
its own (``worker.py``), so that a crash, a hang or a flood of memory ends that process and is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MAX_FAILURES = 3
"""Failures after which a target gets no more time."""
GRACE = 120.0
"""Seconds that a worker may take beyond its time, for its start and its last case."""


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def main(words: list[str] | None = None, *, failures: Path = ROOT / ".fuzz") -> int:
    """Run the targets that the arguments name; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description="Run the fuzzers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(target_names())}; default: all")
    parser.add_argument("--minutes", type=float, default=2.0, help="time of all targets together (default 2)")
    parser.add_argument("--seed", type=int, help="seed of the first round (default: random)")
    parser.add_argument("--repeat", type=Path, metavar="FOLDER", help="run the saved case of a failure again")
    args = parser.parse_args(words)
    if args.repeat:
        return repeat(args.repeat)
    targets = args.targets or target_names()
    if unknown := [name for name in targets if not (HERE / f"fuzz_{name}.py").exists()]:
        parser.error(f"there is no target {', '.join(unknown)}; the targets are {', '.join(target_names())}")
    seed = secrets.randbelow(10**6) * 1000 if args.seed is None else args.seed
    print(f"fuzz: {args.minutes:g} minutes, seed {seed}: {', '.join(targets)}", flush=True)
    end, failed = time.monotonic() + args.minutes * 60, 0
    for number, name in enumerate(targets):
        share = (end - time.monotonic()) / (len(targets) - number)
        failed += run_target(name, seed, max(share, 1.0), failures)
    print(f"fuzz: {failed or 'no'} failure{'' if failed == 1 else 's'}", flush=True)
    return int(failed > 0)


def run_target(name: str, seed: int, seconds: float, failures: Path) -> int:
    """Run a target until its time is up; return the number of failures."""
    end, failed, cases, peak = time.monotonic() + seconds, 0, 0, 0
    first = seed
    while failed < MAX_FAILURES and (left := end - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory(prefix="scrfd-trt-fuzz-", ignore_cleanup_errors=True) as folder:
            code, output, state = run_worker(name, seed, left, Path(folder))
            cases, peak = cases + state["cases"], max(peak, state["peak_mib"])
            seed = state["seed"] + 1
            if code:
                failed += 1
                saved = save(name, state["seed"], Path(folder), output, failures)
                print(f"{name}: FAILED ({_reason(code)}), seed {state['seed']}\n{_tail(output)}", flush=True)
                shown = os.path.relpath(saved)
                print(f"{name}: repeat: {os.path.relpath(sys.executable)} tests/fuzz/run.py --repeat {shown}")
                print(f"{name}: or: nox -s fuzz -- {name} --seed {state['seed']}", flush=True)
    took = f"{seconds:.0f} s, seeds {first} to {seed - 1}, at most {peak} MiB more than before a case"
    print(f"{name}: {cases} cases in {took}: {failed or 'no'} failures", flush=True)
    return failed


def run_worker(name: str, seed: int, seconds: float, folder: Path) -> tuple[int, str, dict[str, Any]]:
    """Run a worker; return its exit code, its output and its last state."""
    command = [sys.executable, str(HERE / "worker.py"), name, str(folder), "--seed", str(seed)]
    command += ["--until", str(time.time() + seconds)]
    (folder / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONFAULTHANDLER": "1", "COLUMNS": "100"}
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
        try:
            code = process.wait(seconds + GRACE)
        except subprocess.TimeoutExpired:
            code = -9
        finally:
            process.kill()
            process.wait()
    state = {"seed": seed, "cases": 0, "peak_mib": 0}
    if (folder / "state.json").exists():
        state |= json.loads((folder / "state.json").read_text())
    return code, (folder / "output.txt").read_text(errors="replace"), state


def save(name: str, seed: int, folder: Path, output: str, failures: Path) -> Path:
    """Keep the failing case and the worker's output; return their folder."""
    target = failures / f"{name}-{seed}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "output.txt").write_text(output)
    for path in folder.glob("case*"):
        shutil.copy(path, target)
    return target


def repeat(folder: Path) -> int:
    """Run the saved case of a failure again; return the worker's exit code, 1 for a crash."""
    name = folder.resolve().name.rpartition("-")[0]
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-fuzz-") as work:
        shutil.copy(folder / "case.pickle", work)
        command = [sys.executable, "-X", "faulthandler", str(HERE / "worker.py"), name, work, "--repeat"]
        code = subprocess.run(command, check=False, cwd=work, timeout=GRACE).returncode
    print(f"{name}: {_reason(code) if code else 'no failure'}", flush=True)
    return int(code != 0)


def _reason(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"


def _tail(output: str, lines: int = 40) -> str:
    """Return the end of an output; of the traceback of a hang or a crash, the start, which is the innermost call."""
    found = output.splitlines()
    starts = [at for at, line in enumerate(found) if line.startswith(("Timeout (", "Fatal Python error"))]
    shown = found[starts[-1] :][:lines] if starts else found[-lines:]
    return "\n".join(f"    {line[:300]}" for line in shown)


if __name__ == "__main__":
    sys.exit(main())
