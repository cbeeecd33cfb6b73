"""Run the fuzzers: ``python tests/fuzz/run.py [--minutes 2] [--seed N] [TARGET ...]``.

A target is a module ``fuzz_TARGET.py`` beside this file. The targets share the time evenly; starting them is not
counted. Each runs in a process of its own (``worker.py``), so that a crash, a hang or a flood of memory ends that
process and is reported.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAX_FAILURES = 3
"""Failures after which a target gets no more time."""
GRACE = 120.0
"""Seconds that a worker may take beyond its time, for its start and its last case."""


def main(words: list[str] | None = None, *, failures: Path = HERE.parents[1] / ".fuzz") -> int:
    """Run the targets that the arguments name; return 1 if one of them failed."""
    known = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
    parser = argparse.ArgumentParser(description="Run the fuzzers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--minutes", type=float, default=2.0, help="time of all targets together (default 2)")
    parser.add_argument("--seed", type=int, help="seed of the first round (default: random)")
    args = parser.parse_args(words)
    targets = args.targets or known
    if unknown := [name for name in targets if name not in known]:
        parser.error(f"there is no target {', '.join(unknown)}; the targets are {', '.join(known)}")
    seed = secrets.randbelow(10**6) * 1000 if args.seed is None else args.seed
    print(f"fuzz: {args.minutes:g} minutes, seed {seed}: {', '.join(targets)}", flush=True)
    failed = sum(run_target(name, seed, args.minutes * 60 / len(targets), failures) for name in targets)
    print(f"fuzz: {failed or 'no'} failure{'' if failed == 1 else 's'}", flush=True)
    return int(failed > 0)


def run_target(name: str, first: int, seconds: float, failures: Path) -> int:
    """Run a target until its time is up, which begins when its modules are loaded; return the number of failures."""
    left, failed, cases, seed = seconds, 0, 0, first
    while failed < MAX_FAILURES and left > 0:
        with tempfile.TemporaryDirectory(prefix="scrfd-trt-fuzz-", ignore_cleanup_errors=True) as place:
            folder = Path(place)
            code = run_worker(name, seed, left, folder)
            output = (folder / "output.txt").read_text(errors="replace")
            if (folder / "state.json").exists():
                seed, done, left = json.loads((folder / "state.json").read_text())
                cases += done
            if code:
                failed += 1
                saved = failures / f"{name}-{seed}"
                shutil.rmtree(saved, ignore_errors=True)
                shutil.copytree(folder, saved, ignore=shutil.ignore_patterns("tmp", "state.json"))
                how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
                print(f"{name}: FAILED ({how}), seed {seed}\n{_tail(output)}")
                worker = f"{os.path.relpath(sys.executable)} tests/fuzz/worker.py"
                print(f"{name}: repeat the case: {worker} {name} {os.path.relpath(saved)} --repeat")
                print(f"{name}: repeat the round: nox -s fuzz -- {name} --seed {seed}", flush=True)
            seed += 1
    print(
        f"{name}: {cases} cases in {seconds:.0f} s, seeds {first} to {seed - 1}: {failed or 'no'} failures", flush=True
    )
    return failed


def run_worker(name: str, seed: int, seconds: float, folder: Path) -> int:
    """Run a worker; return its exit code."""
    command = [sys.executable, str(HERE / "worker.py"), name, str(folder), "--seed", str(seed)]
    command += ["--seconds", str(seconds)]
    (folder / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONFAULTHANDLER": "1", "COLUMNS": "100"}
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
        try:
            return process.wait(seconds + GRACE)
        except subprocess.TimeoutExpired:
            return -9
        finally:
            process.kill()
            process.wait()


def _tail(output: str, lines: int = 40) -> str:
    """Return the end of an output; of the traceback of a hang or a crash, the start, which is the innermost call."""
    found = output.splitlines()
    starts = [at for at, line in enumerate(found) if line.startswith(("Timeout (", "Fatal Python error"))]
    shown = found[starts[-1] :][:lines] if starts else found[-lines:]
    return "\n".join(f"    {line[:300]}" for line in shown)


if __name__ == "__main__":
    sys.exit(main())
