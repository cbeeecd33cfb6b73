"""Large jobs: inputs from a list, a part of the inputs, what an earlier run has done, and a plan without work."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import typer

from scrfd_trt._cli import console
from scrfd_trt._cli.console import count
from scrfd_trt._cli.exits import FAILED, UsageError, at_stop, error_text
from scrfd_trt._cli.folders import OWN_PREFIX, LeftOut
from scrfd_trt._cli.guesses import COPIES
from scrfd_trt._cli.inputs import STDIN, Source, find_inputs, folded, is_folder
from scrfd_trt._cli.option_rules import ALL_FILES, LOSSY, input_facts
from scrfd_trt._cli.options import JobArgs
from scrfd_trt._cli.outputs import SUFFIX, check_folder, make_folder
from scrfd_trt._files import temporary_folder
from scrfd_trt._inputs import is_address
from scrfd_trt._jobs.ledger import Ledger
from scrfd_trt.errors import OptionError, ScrfdError, redact_password

MAY_DIFFER = (
    *("inputs", "files_from", "shard", "resume", "dry_run", "recursive", "output", "annotate", "overwrite", "report"),
    *("save_crops", "show"),
    *("quiet", "verbose", "profile", "progress", "max_pixels", "device", "lean_runtime", "jobs", "workers", "batch"),
    *("preview", "images", "labels", "category", "against", "plot", "sheet", "save_wider", "as_json"),
)
"""Parameters that need not be the same in all runs of a job."""


class Shard(NamedTuple):
    """One of several parts of all inputs; each input is in one of them, whichever others there are."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/3``; raise OptionError if it is invalid."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise OptionError(f"--shard {text!r}: use the part and the number of parts, from 1/3 to 3/3, for example")
        return cls(int(match[1]), int(match[2]))

    def holds(self, name: Path) -> bool:
        """Return whether an input is in this part, by the name of its copy: what may have one copy is in one part."""
        key = str(name).rstrip(". ")
        suffix = Path(key).suffix
        key = folded(key.removesuffix(suffix) if SUFFIX.fullmatch(suffix) else key)
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.total == self.number - 1

    def named(self, path: Path) -> Path:
        """Return the path of this part's results."""
        return path.with_name(f"{path.stem}-{self.number}-of-{self.total}{path.suffix}")


class Job:
    """The inputs of a command that are left to be processed, with the folder of copies and the file of ``rows``."""

    def __init__(self, context: typer.Context, args: JobArgs, *, folder: Path | None, rows: Path | None = None) -> None:
        self._context, self.args = context, args
        self.shard = None if args.shard is None else Shard.parse(args.shard)
        self.rows = None if rows is None else self.shard.named(rows) if self.shard else rows
        self.ledger: Ledger | None = None
        self.skipped, self.is_left = 0, True
        self._sources: Sequence[Source] = ()
        if args.resume:
            place = folder if rows is None else rows.parent
            if place is None:
                raise OptionError("--resume requires --output, or --annotate of 'detect'")
            if rows is None and place.suffix and not is_folder(place):
                raise OptionError(f"--resume requires a folder, and there is none named {place}; create it first")
            check_folder(place)
            name = Path(f"{OWN_PREFIX}job{'' if rows is None else f'-{rows.name}'}.jsonl")
            settings = {name: str(value) for name, value in context.params.items() if name not in MAY_DIFFER}
            self.ledger = Ledger(place / (self.shard.named(name) if self.shard else name), settings, self.rows)

    def find(
        self, inputs: Sequence[str] | None, *, recursive: bool, skip: Iterable[Path | None], left_out: LeftOut
    ) -> list[Source]:
        """Return the inputs, those that are done included; raise OptionError if the list cannot be read."""
        if not inputs and self.args.files_from is None:
            raise UsageError(
                "Missing argument 'INPUT': name files or folders, - for standard input, or a list with --files-from.",
                ctx=self._context,
            )
        listed = () if self.args.files_from is None else listed_paths(self.args.files_from)
        remote = [text for text in (*(inputs or ()), *listed) if text == STDIN or is_address(text)]
        if remote and self.args.resume:
            raise OptionError(f"{redact_password(remote[0])}: --resume continues with files only; leave it out")
        if STDIN in remote and self.args.files_from == Path(STDIN):
            raise OptionError("standard input is either an input or a list; leave out - or --files-from -")
        found = find_inputs(
            inputs or (),
            recursive=recursive,
            skip=[folder for folder in skip if folder is not None],
            left_out=left_out,
            listed=listed,
            takes=(lambda _: True) if self.shard is None else self.shard.holds,
            ledger=self.ledger,
            folder=lambda: self._context.with_resource(temporary_folder()),
        )
        texts = list(inputs or ())
        copies = self._context.info_name in COPIES and self._context.params.get("output") is None
        for first, second in pairwise(texts):
            if os.path.lexists(name := f"{first} {second}") and not os.path.lexists(second):
                raise OptionError(f"{second}: there is no such file; quote a name with a space: {shlex.quote(name)}")
        if copies and len(texts) > 1 and (last := found[-1]).problem == "there is no such file" and not listed:
            last.problem += f"; to write it, use --output {last.path}"
        return found

    def left(self, sources: Sequence[Source]) -> list[Source]:
        """Return the inputs that are not done, and count the others."""
        found = [source for source in sources if not source.is_done]
        self.skipped, self.is_left = len(sources) - len(found), bool(found)
        self._sources = found
        if not sources and not console.is_quiet():
            console.warning(f"no input is in shard {self.args.shard}" if self.shard else "there are no inputs")
        return found

    def facts(self, inputs: Sequence[str] | None, sources: Sequence[Source]) -> set[str]:
        """Return the kinds of the files that were found; options may apply to files that are done."""
        left = [source for source in sources if not source.is_done]
        done = {*ALL_FILES, LOSSY} if len(left) < len(sources) else set()
        return input_facts(inputs or (), left) | done

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what is done in the block; make the folder for the record."""
        if self.ledger is None:
            yield
            return
        make_folder(self.ledger.path.parent)
        with self.ledger.recording(source.copy.parent for source in self._sources if source.copy is not None):
            if self.rows is not None and self.ledger.is_unfinished and not self.is_left:
                with self.ledger.rows_file(self.rows):
                    pass
            try:
                yield
            except KeyboardInterrupt:
                at_stop("the same command with --resume continues from here")
                raise

    def print_plan(self, sources: Sequence[Source], left_out: LeftOut, *, strict: bool) -> None:
        """Print what would be done with each input; raise Exit if an input would fail."""
        counts = {"read": 0, "refuse": 0, "skip": 0}
        for source in sources:
            name = console.printable(source.name)
            written = [console.printable(path) for path in (self.rows, source.copy) if path is not None]
            try:
                source.check()
                line = f"read {name}{', write ' if written else ''}{', '.join(written)}"
            except ScrfdError as error:
                line = f"refuse {name}: {console.printable(error_text(error))}"
            line = f"skip {name}: it is done" if source.is_done else line
            console.write(f"{line}\n")
            counts[line.partition(" ")[0]] += 1
        left_out.report(failed=strict, quiet=console.is_quiet())
        if not console.is_quiet():
            read, refused, skipped = counts.values()
            console.plain(f"{count(read, 'input')} would be read, {refused:,} refused, {skipped:,} skipped")
        if counts["refuse"] or (strict and left_out):
            raise typer.Exit(FAILED)


def listed_paths(path: Path) -> list[str]:
    """Return the paths of a list, one a line, or separated by NUL if it has one; ``-`` is standard input."""
    try:
        if path != Path("-"):
            data = path.read_bytes()
        elif sys.stdin is not None:
            data = sys.stdin.buffer.read()
        else:
            raise OptionError("--files-from -: standard input is closed")
    except OSError as error:
        raise OptionError(f"--files-from {path}: cannot be read: {error.strerror}") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    names = data.split(b"\0") if b"\0" in data else [name.removesuffix(b"\r") for name in data.split(b"\n")]
    return [os.fsdecode(name) for name in names if name]
