"""What people type who know other tools: words that are replaced by this program's, and answers to those it lacks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

ANNOTATE = "use --annotate DIR for copies with marked faces, or --output FILE for the results"
Guess = tuple[str, ...] | str


def _each(*names: str, to: Guess) -> dict[str, Guess]:
    return dict.fromkeys(names, to)


GUESSES: Mapping[str, Guess] = {
    # Commands
    **_each("anonymise", "anonymizer", "anon", "blur", "deface", "hide", "redact", "censor", "mask", to=("anonymize",)),
    **_each("pixelate", "pixelize", "mosaic", to=("anonymize", "--replace-with", "mosaic")),
    **_each("predict", "detection", "detector", "find", "faces", "infer", to=("detect",)),
    **_each("track", "tracking", to=("tracks",)),
    **_each("draw", to=("overlay",)),
    **_each("annotate", "plot", "mark", to=("overlay", "--overlay", "landmarks")),
    **_each("model", to=("models",)),
    **_each("download", "fetch", "pull", "model.download", to=("models", "--fetch")),
    **_each("engine", "engines", "export", "convert", "compile", "trtexec", to=("build",)),
    **_each("check", "checks", "info", "env", "settings", "config", to=("doctor",)),
    **_each("benchmark", "profile", "speed", to=("bench",)),
    **_each("describe", to=("inspect",)),
    **_each("ui", "gui", "web", "webui", "app", to=("studio",)),
    **_each("version", "-V", "-v", "-version", to=("--version",)),
    **_each("train", "val", to="models are not trained here; 'scrfd-trt models' lists those that are ready"),
    **_each("serve", to="there is no server; 'scrfd-trt studio' opens a local page"),
    **_each("preview", "webcam", to="use 'scrfd-trt anonymize camera:0 -o FILE --preview', or 'scrfd-trt studio'"),
    # Words after a command
    **_each("models download", "models fetch", "models get", to=("--fetch",)),
    **_each("models list", "models ls", "overlays list", "overlays ls", "detect predict", to=()),
    **_each("detect 0", "detect cam", "detect webcam", to="use 'scrfd-trt overlay camera:0 landmarks -o FILE'"),
    **{f"{name} {word}": ("camera:0",) for name in ("anonymize", "overlay") for word in ("0", "cam", "webcam")},
    # Inputs and outputs
    **_each("-i", "--input", "--inputs", "--source", "--image", "--images", "--video", "--path", to=()),
    **_each("--out", "--outfile", "--out-file", "--output-file", "--save-path", to=("--output",)),
    **_each("--outdir", "--out-dir", "--output-dir", "--save-dir", "--project", to=("--output",)),
    **_each("detect --outdir", "detect --out-dir", "detect --output-dir", to=ANNOTATE),
    **_each("detect --save", "detect --save-dir", "detect --save-img", "detect --project", to=ANNOTATE),
    **_each("--name", "--save", to="use --output FILE, or --output DIR for several inputs"),
    **_each("-y", "--yes", "--force", "--exist-ok", "--overwrite-output", to=("--overwrite",)),
    **_each("-n", "-hide_banner", to=()),
    **_each("-overwrite_original", "--in-place", "--inplace", to="an input is never replaced; name another file"),
    **_each("-R", "--recurse", to=("--recursive",)),
    **_each("--ext", to="use a glob in quotes, such as 'photos/*.jpg'"),
    **_each("--silent", "--disable-progress-output", to=("--quiet",)),
    **_each("-loglevel", "--log-level", to="use --quiet for errors only, or --verbose for more"),
    # Results
    **_each("--fmt", "--output-format", "--type", to=("--format",)),
    **_each("-f", to="the suffix of --output selects the format"),
    **{f"--{name}": ("--format", name) for name in ("table", "json", "jsonl", "csv", "coco", "yolo", "wider")},
    **_each("--save-txt", to="use --format yolo -o DIR"),
    **_each("--save-json", to="use --format coco -o FILE.json"),
    **_each("--save-crop", "--crop", "--crops", "--crop-dir", to="use --save-crops DIR"),
    **_each("--view", "--view-img", "--display", to=("--show",)),
    **_each("--save-conf", to="use --format csv or jsonl, which have the scores"),
    **_each("--draw-scores", "--show-conf", to="use 'scrfd-trt detect --annotate DIR', which draws the scores"),
    # Detection
    **_each("--conf", "--confidence", "--conf-thres", "--conf-threshold", to=("--threshold",)),
    **_each("--thresh", "--det-thresh", "--score", "--score-threshold", "--min-score", to=("--threshold",)),
    **_each("--imgsz", "--img", "--img-size", "--image-size", "--det-size", "--input-size", to=("--scale",)),
    **_each("--scales", "--size", "--sizes", to=("--scale",)),
    **_each("build --imgsz", "build --img-size", "build --scale", to=("--size",)),
    **_each("--iou-thres", "--iou-threshold", "--nms", "--nms-thresh", "--nms-threshold", to=("--iou",)),
    **_each("--max-det", "--max-num", "--limit", "--top-k", to=("--max-faces",)),
    **_each("--min-size", "--min-face-size", to=("--min-face",)),
    **_each("--rotation", "--rotate", "--augment", to="use --rotations 90,180,270, or --min-face PIXELS"),
    **_each("--weights", "--checkpoint", "--engine", "--onnx", "--detector", to=("--model",)),
    **_each("--classes", "--class", to="SCRFD detects faces only; leave it out"),
    **_each("--vid-stride", "--stride", "--skip-frames", to=("--every",)),
    # Speed
    **_each("--cpu", to=("--device", "cpu")),
    **_each("--cuda", to=("--device", "cuda")),
    **_each("--gpu", "--gpu-id", "--ctx", "--ctx-id", to="use --device cuda, cuda:N for one of several, or cpu"),
    **_each("--backend", "--execution-provider", "--ep", "--provider", to="use --device cpu or cuda"),
    **_each("--batch-size", to=("--batch",)),
    **_each("--threads", "--num-workers", to=("--workers",)),
    **_each("build --onnx", "build --model", "build --weights", to=()),
    **_each("--saveengine", to=("--output",)),
    **_each("build --format", to="engines are what it writes; leave it out"),
    **_each("build --half", "build --fp16", to=("--precision", "fp16")),
    **_each("--half", "--fp16", to="use an engine of 'scrfd-trt build', which has half precision by default"),
    **_each("--int8", to="is not supported; engines of 'scrfd-trt build' have half precision"),
    # Covers and videos
    **_each("--method", "--mode", "--replacewith", to=("--replace-with",)),
    **_each("--pixelate", "--mosaic", to=("--replace-with", "mosaic")),
    **_each("--blur", "--strength", to="use --overlay blur:strength=N; 'scrfd-trt overlays blur' has more"),
    **_each("--replace-img", "--replaceimg", to=("--replace-image",)),
    **_each("--mosaicsize", to=("--mosaic-size",)),
    **_each("--box", to=("--boxes",)),
    **_each("-p", to=("--preview",)),
    **_each("-k", "--keep-audio", to=()),
    **_each("-da", "--distort-audio", to="voices are not changed; use --audio drop"),
    **_each("-an", "--no-audio", "--no-keep-audio", to=("--audio", "drop")),
    **_each("-vcodec", "-c", "-c:v", to=("--codec",)),
    **_each("-b:v", "-q:v", "--bitrate", to="use --crf N; lower is better"),
    **_each("-acodec", "-c:a", to="use --audio auto, copy or drop"),
    **_each("-ss", "-to", to="use --only-span FROM-TO; the copy has all frames"),
    **_each("-vf", "-filter:v", to="filters are not supported; leave it out"),
    **_each("-map", to="picture, audio and subtitles are kept; see --audio and --no-subtitles"),
    **_each("--ffmpeg-config", to="use --codec, --crf and --preset"),
    **_each("-all", to="copies have no metadata; leave it out"),
    **{
        f"--{old}-{what}": f"use --{new}-{what}"
        for old, new in (("keep", "only"), ("leave", "except"))
        for what in ("tracks", "region", "span")
    },
}
"""By command, word after a command, or option; a key of several words is of that command only, and comes first.

A tuple takes the place of what is typed, and a text is the answer. Replacements apply where the command has the option.
"""


class GuessError(Exception):
    """The answer to a word that cannot be replaced."""


def translated_command(words: list[str], commands: Iterable[str]) -> list[str]:
    """Return the words of the command line with this program's name of the command; raise GuessError for an answer."""
    if not words or words[0] in commands:
        return words
    first, *rest = words
    if first == "help":
        return [*translated_command(rest[:1], commands)[:1], "--help"]
    guess = GUESSES.get(first if first.startswith("-") else first.lower(), ())
    if first.startswith("-") and guess != ("--version",):
        return words
    if isinstance(guess, str):
        raise GuessError(f"{first}: {guess}")
    if guess:
        return [*guess, *rest]
    if os.path.lexists(first) or re.search(r"\.\w+$|://|/", first):
        raise GuessError(f"{first} is no command; use 'scrfd-trt detect {first}' or 'scrfd-trt anonymize {first}'")
    known = [*commands, *(name for name in GUESSES if re.fullmatch("[a-z]+", name))]
    close = next(iter(get_close_matches(first.lower(), known, 1)), "")
    guess = GUESSES.get(close, (close,))
    hint = f"; did you mean {guess[0]!r}?" if isinstance(guess, tuple) and guess[0] in commands else ""
    raise GuessError(f"there is no command {first!r}{hint}")


def translated_options(command: Any, words: list[str]) -> list[str]:
    """Return a command's words with its own names of options; raise GuessError for an answer."""
    options = {name: parameter for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return [*_Words(command.name, options).translated(words)]


class _Words:
    def __init__(self, command: str, options: Mapping[str, Any]) -> None:
        self.command, self.options = command, options

    def translated(self, words: Iterable[str]) -> Iterator[str]:
        rest = iter(words)
        for word in rest:
            if word == "--":
                yield word
                break
            found = [*self._option(word)] if word[:1] == "-" and len(word) > 1 else [*self._argument(word)]
            yield from found
            if found and self._takes_value(found[-1]):
                value = next(rest, None)
                if value is None and found != [word]:
                    example = f"{found[-1]} {self.options[found[-1]].metavar}"
                    raise GuessError(f"{word}: give a value, as in 'scrfd-trt {self.command} {example}'")
                yield from () if value is None else (value,)
        yield from rest

    def _takes_value(self, word: str) -> bool:
        return word in self.options and not self.options[word].is_flag

    def _option(self, word: str) -> Iterator[str]:
        name, equals, value = word.partition("=")
        guess = self._find(name)
        if isinstance(guess, str):
            raise GuessError(f"{name}: {guess}")
        if guess is None:
            yield word
        elif equals and not guess:
            yield value
        elif equals and self._takes_value(guess[-1]):
            yield f"{guess[-1]}={value}"
        else:
            yield from guess

    def _find(self, name: str) -> Guess | None:
        """Return what replaces the name of an option, or the answer; None if nothing is known."""
        long = f"--{name.lstrip('-').replace('_', '-').lower()}"
        known = (one for one in (name, long if len(name) > 2 else name) if one in self.options)
        guesses = (GUESSES.get(key) for key in (f"{self.command} {long}", name, long))
        fitting = (guess for guess in guesses if guess is not None and self._fits(guess))
        return next(((one,) for one in known), None) or next(fitting, None)

    def _fits(self, guess: Guess) -> bool:
        return isinstance(guess, str) or all(word[0] != "-" or word in self.options for word in guess)

    def _argument(self, word: str) -> Iterator[str]:
        """Replace words such as ``conf=0.5`` and names of overlays, unless there are files of these names."""
        name, equals, value = word.partition("=")
        guess = GUESSES.get(f"{self.command} {word}", ("--help",) if word == "help" else None)
        if os.path.lexists(word):
            yield word
        elif isinstance(guess, str):
            raise GuessError(f"{word}: {guess}")
        elif guess is not None:
            yield from guess
        elif equals and name.isidentifier() and self._find(f"--{name}") is not None:
            flag = value.lower() in {"true", "false"}
            yield from () if value.lower() == "false" else self._option(f"--{name}" if flag else f"--{name}={value}")
        elif "--overlay" in self.options and _is_overlay(word.partition(":")[0]):
            yield f"--overlay={word}"
        else:
            yield word


def _is_overlay(name: str) -> bool:
    import overlays  # noqa: PLC0415 - slow to import

    return name in overlays.names()


def no_option(name: str, command: Any) -> str:
    """Return a message on an option that a command does not have, with the one whose name is closest."""
    if hasattr(command, "commands"):
        return f"{name}: options follow a command, as in 'scrfd-trt detect FILE {name}'"
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    guesses = {key: guess[0] for key, guess in GUESSES.items() if isinstance(guess, tuple) and guess}
    known = {key.strip("-"): option for key, option in (guesses | dict(zip(options, options, strict=True))).items()}
    close = get_close_matches(name.strip("-").replace("_", "-").lower(), known, 1, 0.8)
    hint = f"; did you mean {known[close[0]]}?" if close and known[close[0]] in options else ""
    return f"there is no option {name}{hint}"
