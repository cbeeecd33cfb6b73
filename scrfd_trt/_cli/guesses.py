"""What people type who know other tools: words that are replaced by this program's, and answers to those it lacks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scrfd_trt._option_names import meant_by
from scrfd_trt.errors import ScrfdError

ANNOTATE = "use --annotate DIR for copies with marked faces, or --output FILE for the results"
CAMERAS = dict.fromkeys(("0", "cam", "webcam"), "camera:0") | {f"/dev/video{n}": f"camera:{n}" for n in range(10)}
RENAMED = (("keep", "only"), ("leave", "except"))
COPIES = ("anonymize", "overlay")
RESIZES = ("--resize", "--width", "--height", "--max-width", "--max-height", "--max-size")
RESIZE = "copies keep the size of their input; use ffmpeg or ImageMagick on the copy"
FACES_ONLY = "SCRFD detects faces only; leave it out"
CROPS = "use 'scrfd-trt detect FILE --save-crops DIR'"
COMPLETION, ENGINE = "--install-completion", "'scrfd-trt build MODEL -o FILE.plan' writes a TensorRT engine"
NO_NAMES = "faces are detected, not recognized; docs/how-to/examples.md has a program that compares faces"
NUMBERS = "use --only-tracks N,... or --except-tracks N,..., with numbers of 'scrfd-trt tracks'"
SCORES = "use 'scrfd-trt detect --annotate DIR', or for videos 'scrfd-trt overlay VIDEO --overlay landmarks -o FILE'"
SMALL = "smaller faces are not left out; --min-face N finds faces from N pixels on"
VISIBLE = (
    "use --except-region X,Y,W,H; for a video, 'scrfd-trt tracks VIDEO --save-detections FILE' numbers the people: "
    "use --detections FILE --except-tracks N"
)
NOT_ALL = (
    "to leave out files, use 'find ... | scrfd-trt anonymize --files-from -'; to leave a face visible, use "
    "--except-region X,Y,W,H, or in videos --except-tracks N,..."
)
CUT = "cut the video before: ffmpeg -ss START -to END -i VIDEO -c copy CUT.mp4"
PILES = "the output follows the input: 'scrfd-trt batch PHOTOS PILES', with --anonymize for copies"
Guess = tuple[str, ...] | str


def _each(*names: str, to: Guess) -> dict[str, Guess]:
    return dict.fromkeys(names, to)


GUESSES: Mapping[str, Guess] = {
    # Commands
    **_each("anonymise", "anonymizer", "blur", "deface", "hide", "redact", "censor", "mask", to=("anonymize",)),
    **_each("pixelate", "mosaic", to=("anonymize", "--replace-with", "mosaic")),
    **_each("predict", "detection", "find", "faces", "infer", "count", to=("detect",)),
    **_each("recognize", "recognise", "identify", "embed", "compare", to=NO_NAMES),
    **_each("val", "eval", to=("evaluate",)),
    **_each("test", to="use 'scrfd-trt doctor' for this machine, 'scrfd-trt evaluate' for labelled images"),
    **_each("api", "server", "rest", to=("serve",)),
    **_each("track", "tracking", to=("tracks",)),
    **_each("draw", "annotate", "plot", to=("overlay",)),
    **_each("model", to=("models",)),
    **_each("download", "fetch", "pull", to=("models", "--fetch")),
    **_each("engine", "convert", "compile", "trtexec", to=("build",)),
    **_each("check", "checks", "info", "env", "status", to=("doctor",)),
    **_each(
        "settings", "config", to="use --settings FILE with a command; 'scrfd-trt doctor' shows the file that is read"
    ),
    **_each("cover", to="use 'scrfd-trt anonymize FILE'; its option --cover X,Y,W,H covers a place"),
    **_each("verify", "report", to="use 'scrfd-trt anonymize FILE' with --verify, or --report FILE.html"),
    **_each("show", to="use 'scrfd-trt detect FILE --show'"),
    **_each("train", to="InsightFace trains models; 'scrfd-trt build' makes engines of their ONNX files"),
    **_each("benchmark", to=("bench",)),
    **_each("ui", "gui", "web", "app", to=("studio",)),
    **_each("completion", "completions", "autocomplete", "install-completion", "--completion", to=(COMPLETION,)),
    **_each("crop", "crops", "extract", "gallery", to=CROPS),
    **_each("--list-models", to=("models",)),
    **_each("list", "ls", to="use 'scrfd-trt models', 'scrfd-trt overlays' or, for a video, 'scrfd-trt tracks FILE'"),
    **_each("update", "upgrade", to="use 'pip install --upgrade scrfd-trt', or 'git pull' in a checkout"),
    "--help-all": ("--help",),
    **_each("version", "-V", "-v", "-version", to=("--version",)),
    **_each("preview", "webcam", to="use 'scrfd-trt anonymize camera:0 -o FILE --preview', or 'scrfd-trt studio'"),
    # Words after a command
    **_each("models download", "models fetch", "models get", "models path", to=("--fetch",)),
    **_each("models list", "overlays list", "detect predict", to=()),
    **{f"detect {name}": f"use 'scrfd-trt overlay {camera} landmarks -o FILE'" for name, camera in CAMERAS.items()},
    **{f"{command} {name}": (camera,) for command in COPIES for name, camera in CAMERAS.items()},
    **{f"{command} {name}": ("-",) for command in ("detect", *COPIES) for name in ("pipe:0", "pipe:", "/dev/stdin")},
    # Inputs and outputs
    **_each("-i", "--input", "--source", "--image", "--images", "--video", "--input-dir", "--dir", "--folder", to=()),
    **_each("--path", "--file", "--files", "--glob", to=()),
    **_each("--out", "--outfile", "--output-file", "--outdir", "--out-dir", "--output-dir", to=("--output",)),
    **_each(
        "detect --out-dir", "detect --output-dir", "detect --save", "detect --save-dir", "detect --project", to=ANNOTATE
    ),
    **_each("--save", "--save-dir", "--project", to="use --output FILE, or --output DIR for several inputs"),
    **_each("-y", "--yes", "--force", "--exist-ok", to=("--overwrite",)),
    **_each("--in-place", "--inplace", "--backup", to="an input is never replaced; name another file"),
    **_each("--silent", "--disable-progress-output", to=("--quiet",)),
    **_each("-loglevel", "--log-level", to="use --quiet for errors only, or --verbose for more"),
    # Results
    **{f"--{name}": ("--format", name) for name in ("table", "json", "jsonl", "csv", "coco", "yolo", "wider")},
    **{f"{command} --format": "the suffix of --output names the format, such as hidden.png" for command in COPIES},
    **_each("detect --count", to="the results have the number of faces of each image"),
    **_each("detect --append", to="a file is not added to; use --resume, or another file"),
    **_each("detect --list", to="use --files-from FILE"),
    **_each("-0", to=()),
    **_each("detect --pretty", "detect --indent", to="use --format json, with | python -m json.tool for indents"),
    **_each("detect --no-landmarks", "detect --fields", to="all fields are written; select some afterwards"),
    **_each("detect --sort", to="results are in the order of the inputs; leave it out"),
    **_each("detect --output-image", to=ANNOTATE),
    **_each("tracks --csv", "tracks --format", to="use --json"),
    **_each("tracks --html", to="use 'scrfd-trt anonymize VIDEO --report FILE.html'"),
    **{f"--save-{name}": f"use --output FILE.{name}" for name in ("json", "jsonl", "csv")},
    **_each("detect --visualize", "detect --draw", "detect --plot", to=ANNOTATE),
    **_each("--save-txt", to="use --format yolo -o DIR"),
    **_each("--save-crop", "--crop", "--crops", to="use --save-crops DIR"),
    **_each("--draw-scores", to=SCORES),
    # Detection
    **_each("--conf", "--confidence", "--conf-thres", "--conf-threshold", to=("--threshold",)),
    **_each("--thresh", "--det-thresh", "--score-threshold", "--min-score", to=("--threshold",)),
    **_each("--imgsz", "--img-size", "--image-size", "--img", "--det-size", "--input-size", "--size", to=("--scale",)),
    **_each("build --imgsz", "build --img-size", "build --scale", to=("--size",)),
    **_each("--iou-thres", "--iou-threshold", "--nms", "--nms-thresh", "--nms-threshold", to=("--iou",)),
    **_each("--max-det", "--max-num", "--top-k", "--top", to=("--max-faces",)),
    **_each("--min-size", "--min-face-size", "--min-width", "--min-height", to=SMALL),
    **_each("--rotate", to="use --rotations 90,180,270 to find turned faces"),
    **_each("detect --webcam", to="use 'scrfd-trt overlay camera:0 landmarks -o FILE'"),
    **{f"{command} --webcam": ("camera:0",) for command in COPIES},
    **{f"{command} {name}": RESIZE for command in COPIES for name in RESIZES},
    **_each("--weights", "--checkpoint", "--engine", "--onnx", to=("--model",)),
    **_each("--classes", "--class", "--plates", "--license-plates", "--age", "--gender", to=FACES_ONLY),
    **_each("--embedding", "--embeddings", to=NO_NAMES),
    **_each("--landmarks", to="landmarks are in all results but tables; leave it out"),
    **_each("--view-img", "--view", "--display", to=("--show",)),
    **_each("--hide-labels", "--hide-conf", "--line-thickness", to="use 'scrfd-trt overlay FILE --overlay boxes:…'"),
    **_each("--nosave", "--agnostic-nms", to=()),
    **_each("--augment", "--tta", to="use --rotations 90,180,270, or --scale 640,1280 for several sizes"),
    **_each("--tracker", to="videos are always tracked; leave it out"),
    **_each("--vid-stride", "--stride", "--skip-frames", to=("--every",)),
    **_each("--tile", "--tiles", "--slice", "--sahi", to="use --min-face N, which uses tiles where faces are small"),
    **_each("--rgb", "--bgr", to="files have their colours; leave it out"),
    # Speed
    **_each("--cpu", "--no-gpu", to=("--device", "cpu")),
    **_each("--cuda", "--use-gpu", to=("--device", "cuda")),
    **_each("--gpu", "--gpu-id", "--ctx-id", to="use --device cuda, cuda:N for one of several, or cpu"),
    **_each("--backend", "--execution-provider", "--ep", to="use --device cpu or cuda, and neither --backend nor --ep"),
    **_each("--batch-size", to=("--batch",)),
    **_each("--threads", "--num-workers", "-j", to=("--workers",)),
    **_each("build --onnx", "build --model", "build --weights", to=()),
    **_each("build --half", "build --fp16", to=("--precision", "fp16")),
    **_each("--half", "--fp16", to="use an engine of 'scrfd-trt build', which has half precision by default"),
    # Covers and videos
    **_each("--replacewith", to=("--replace-with",)),
    **_each("--replaceimg", to=("--replace-image",)),
    **_each("--mosaicsize", "--pixel-size", "--block-size", to=("--mosaic-size",)),
    **_each("--roi", "--zone", to="use --only-region X,Y,W,H or --except-region X,Y,W,H"),
    **_each("tracks --thumbnails", to="use --output FILE.jpg, which shows a face of each track"),
    **_each("--pixelate", "--mosaic", to=("--replace-with", "mosaic")),
    **{f"--{cover}": ("--replace-with", cover) for cover in ("blur", "solid")},
    **_each("--ellipse", to=()),
    **_each("--rectangle", "--square", to=("--boxes",)),
    **_each("--expand", to="use --mask-scale N, or --overlay blur:margin=N"),
    **_each("anonymize --faces", to=VISIBLE),
    **_each(
        "anonymize --color",
        "anonymize --colour",
        to="in place of --replace-with solid, use --overlay solid:fill=COLOR",
    ),
    **_each("-p", "anonymize --show", to=("--preview",)),
    **_each("-k", "--keep-audio", to=("--audio", "auto")),
    **{f"--{old}-{what}": f"use --{new}-{what}" for old, new in RENAMED for what in ("tracks", "region", "span")},
    **_each("anonymize --keep", "anonymize --except", to=VISIBLE),
    **{f"{one} {name}": NOT_ALL for one in COPIES for name in ("--exclude", "--ignore", "--skip", "--exclude-files")},
    **_each("detect --exclude", "detect --ignore", to="use 'find ... | scrfd-trt detect --files-from -'"),
    **{
        f"{one} --{verb}-face{s}": VISIBLE
        for one in COPIES
        for verb in ("skip", "exclude", "except")
        for s in ("", "s")
    },
    **{f"{one} --whitelist": VISIBLE for one in COPIES},
    **_each(
        "--skip-existing", "--continue", "--no-clobber", to="use --resume, in the first run, too; finished files stay"
    ),
    **_each("batch --o", "batch --output", "batch --out", "batch --output-dir", "batch --out-dir", to=PILES),
    **{f"{one} {name}": NUMBERS for one in COPIES for name in ("--only", "--track", "--tracks", "--track-id")},
    **{f"{one} {name}": () for one in COPIES for name in ("--strip", "--no-metadata", "--strip-metadata")},
    **{f"{one} --metadata": "use --keep-metadata; location and device are left out" for one in COPIES},
    **_each("--keep-exif", to=("--keep-metadata",)),
    **_each(
        "--suffix",
        "--prefix",
        "--output-suffix",
        to="use --output FILE, or --output DIR, which keeps names",
    ),
    **_each("--save-settings", to="write the options into a file for --settings"),
    **_each("overlay --list", to="use 'scrfd-trt overlays'"),
    **_each("overlay --mask", to="use --overlay image:picture=FILE"),
    **_each("doctor --fix", to="run the lines that 'scrfd-trt doctor' prints"),
    **_each("-da", "--distort-audio", to="voices are not changed; use --audio drop"),
    **_each("-an", "--no-audio", "--mute", to=("--audio", "drop")),
    **_each(
        "-ss",
        "-to",
        "--start",
        "--end",
        "--frames",
        "--max-frames",
        to=CUT,
    ),
    **_each(
        "-vf",
        "-af",
        "-filter:v",
        "-filter_complex",
        "-s",
        "-pix_fmt",
        to="use ffmpeg itself on the copy",
    ),
    "-f": "the suffix of the output names its format, such as --output hidden.mp4",
    **_each("-b:v", "-maxrate", "-q:v", "-qscale", "-qscale:v", "--bitrate", to="use --crf N; less is better"),
    **_each("-c:a", "-acodec", "-b:a", to="use --audio; audio is copied where the output can hold it"),
    **_each("--fps", "-framerate", to="the frame rate stays; --every N detects less often"),
    **_each("--method", "--type", "--mode", "--style", "--effect", to=("--replace-with",)),
    **_each("--exclude-track", "--exclude-tracks", to=("--except-tracks",)),
    **_each("models --list", "overlays --list", to=()),
    "models --download": ("--fetch",),
    **_each("-hwaccel", to=("--device",)),
    **_each("-sn", to=("--no-subtitles",)),
    **_each("-n", "--no-overwrite", "-hide_banner", to=()),
    **_each("-c", "-c:v", "-vcodec", "--vcodec", "--video-codec", to=("--codec",)),
    **_each("--config", to=("--settings",)),
    **_each("--ffmpeg-config", to="use --codec, --crf and --preset"),
}
"""By command, word after a command, or option; a key of several words is of that command only, and comes first.

A tuple takes the place of what is typed, and a text is the answer. Replacements apply where the command has the option.
"""
FLAGS: Mapping[str, tuple[str, str]] = {
    "--blur": (r"[\d.]+", "use --overlay blur:strength=N; 'scrfd-trt overlays blur' has the options"),
    "--mosaic": (r"\d+", "use --replace-with mosaic --mosaic-size {}"),
    "--pixelate": (r"\d+", "use --replace-with mosaic --mosaic-size {}"),
    "--emoji": (r"\W+|[a-z_]+", "use --overlay emoji:kind=NAME; 'scrfd-trt overlays emoji' has the names"),
    **{f"--{name}": (rf".+\.{name}", "use --output {}") for name in ("json", "jsonl", "csv")},
    "-r": (r"mosaic|blur|solid|none|img|pixelate", "this is --recursive; use --replace-with {}"),
    "-q": (r"\d+", "this is --quiet; use --quality {}"),
    "-v": (r"quiet|panic|fatal|error|warning|info|debug", "this is --verbose; use --quiet for errors only"),
}
"""By flag, the word after it that is a value, and the answer, unless a file has this name."""
VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "--output": {"-": ("pipe:1", "pipe:", "/dev/stdout")},
    "--replace-with": {"mosaic": ("pixelate", "pixel"), "solid": ("black", "box", "fill"), "img": ("image",)},
    "--audio": {"drop": ("no", "none", "off")},
    "--codec": {"hevc": ("libx265", "x265", "h265"), "h264": ("libx264", "x264", "avc"), "av1": ("libsvtav1",)},
}
"""By option, this program's values and those of others, in lower case."""


_NO_SCORE = r"\d*[1-9]\d*(\.\d+)?|(\d+:)+[\d.]+"


class GuessError(Exception):
    """The answer to a word that cannot be replaced."""


def translated_command(words: list[str], commands: Iterable[str]) -> list[str]:
    """Return the words of the command line with this program's name of the command; raise GuessError for an answer."""
    words = _without_script(words)
    if not words or words[0] in commands:
        return words
    first, *rest = words
    if first == "help":
        return [*translated_command(rest[:1], commands)[:1], "--help"]
    guess = (COMPLETION,) if first == COMPLETION else GUESSES.get(first if first.startswith("-") else first.lower(), ())
    if first.startswith("-") and guess not in (("--version",), ("--help",), ("models",), (COMPLETION,)):
        return words
    if isinstance(guess, str):
        raise GuessError(f"{first}: {guess}")
    _refuse_arguments(first, rest, guess)
    if guess:
        return [*guess, *rest]
    if first.partition(":")[0] in _overlay_names():
        return ["overlay", "--overlay", first, *rest]
    if rest and not close_to(first, commands) and (os.path.lexists(rest[0]) or "://" in rest[0]):
        raise GuessError(f"there is no command {first!r}; use 'scrfd-trt detect FILE' or 'scrfd-trt anonymize FILE'")
    if os.path.lexists(first) or re.search(r"\.\w+$|://|/", first):
        raise GuessError(f"{first} is no command; use 'scrfd-trt detect {first}' or 'scrfd-trt anonymize {first}'")
    close = close_to(first, commands)
    guess = GUESSES.get(close, (close,))
    hint = f"; did you mean {guess[0]!r}?" if isinstance(guess, tuple) and guess[0] in commands else ""
    raise GuessError(f"there is no command {first!r}{hint}")


def close_to(word: str, commands: Iterable[str]) -> str:
    """Return the command, or the word of the table, whose spelling is closest; empty if none is close."""
    known = [*commands, *(name for name in GUESSES if re.fullmatch("[a-z]+", name))]
    return next(iter(get_close_matches(word.lower(), known, 1, 0.75)), "")


def _without_script(words: list[str]) -> list[str]:
    """Return ``detect`` for ``detect.py`` and ``mode=detect``, and ``convert`` where other programs have ``export``."""
    if words[:1] == ["export"] and words[1:] and words[1] != "triton" and not words[1].startswith("-"):
        return ["convert", *words[1:]]
    while words and (words[0] in ("yolo", "scrfd", "scrfd-trt") or words[0].startswith("task=")):
        words = words[1:]
    words = [words[0].removeprefix("mode="), *words[1:]] if words else words
    is_script = words and words[0].endswith(".py") and not os.path.lexists(words[0])
    return [words[0].removesuffix(".py"), *words[1:]] if is_script else words


def _refuse_arguments(first: str, rest: list[str], guess: Guess) -> None:
    """Raise GuessError where the replacement of a command would not take what follows."""
    if guess == ("build",) and not re.search(r"(^| )(-o|--out)", " ".join(rest)):
        raise GuessError(f"{ENGINE}; models are ONNX files already, and 'scrfd-trt models' lists them")
    if guess == ("doctor",) and rest and not rest[0].startswith("-"):
        raise GuessError(f"{first} {rest[0]}: use 'scrfd-trt detect FILE' for faces, or 'scrfd-trt inspect MODEL'")
    if guess == (COMPLETION,) and rest:
        raise GuessError(f"{first} {rest[0]}: run 'scrfd-trt {COMPLETION}' in this shell, without a name")


def translated_options(command: Any, words: list[str]) -> list[str]:
    """Return a command's words with its own names of options; raise GuessError for an answer."""
    given = [one for one in command.params if one.param_type_name == "option"]
    options = {name: parameter for parameter in given for name in (*parameter.opts, *parameter.secondary_opts)}
    found = [*_Words(command.name, options).translated(words)]
    if command.name == "overlay" and not any(word.startswith("--overlay") for word in found):
        for word in found:
            if os.path.lexists(word) and word in _overlay_names():
                raise GuessError(f"{word}: this is a file or folder here; for the overlay, use --overlay {word}")
    return found


class _Words:
    def __init__(self, command: str, options: Mapping[str, Any]) -> None:
        self.command, self.options = command, options

    def translated(self, words: Iterable[str]) -> Iterator[str]:
        rest, before = iter(words), ""
        for word in rest:
            if word == "--":
                yield word
                break
            form, answer = FLAGS.get(before, ("", ""))
            if form and re.fullmatch(form, word) and not os.path.lexists(word):
                raise GuessError(f"{before} {word}: {answer.format(word)}")
            before = word
            found = [*self._option(word)] if word[:1] == "-" and len(word) > 1 else [*self._argument(word)]
            yield from found
            if found and self._takes_value(found[-1]):
                value = next(rest, None)
                if value is None and found != [word]:
                    example = f"{found[-1]} {self.options[found[-1]].metavar}"
                    raise GuessError(f"{word}: give a value, as in 'scrfd-trt {self.command} {example}'")
                yield from () if value is None else (self._value(found[-1], value),)
        yield from rest

    def _takes_value(self, word: str) -> bool:
        return word in self.options and not self.options[word].is_flag

    def _option(self, word: str) -> Iterator[str]:
        name, equals, value = word.partition("=")
        guess = self._find(name)
        if isinstance(guess, str):
            raise GuessError(f"{name}: {guess}")
        if guess is None:
            if not self._is_known(word):
                if os.path.lexists(word) or re.search(r"\w\.[a-z]\w{2,4}$", name):
                    raise GuessError(f"{word}: to name a file, put -- before it, or write ./{word}")
                raise GuessError(no_option(name, self.options.values(), self.command))
            yield word
        elif equals and not guess:
            yield value
        elif equals and self._takes_value(guess[-1]):
            yield f"{guess[-1]}={self._value(guess[-1], value)}"
        elif equals:
            raise GuessError(f"{name}: takes no value; use {' '.join(guess)} alone")
        else:
            yield from guess

    def _is_known(self, word: str) -> bool:
        """Return False for one dash and letters that are not all options, which typer would report one by one."""
        while re.match("-[^-].", word) and f"-{word[1]}" in self.options and self.options[f"-{word[1]}"].is_flag:
            word = f"-{word[2:]}"
        return not re.match("-[^-\\d]", word) or word[:2] in self.options or word == "-h"

    def _value(self, option: str, value: str) -> str:
        """Return the value of an option with this program's name for it."""
        one, lower = self.options[option], value.lower()
        if one.opts[0] == "--output" and re.fullmatch(r"\w{2,5}:-", value):
            raise GuessError(f"{option} {value}: use {option} -, which has the format of the input")
        if option == "-t" and one.opts[0] == "--threshold" and re.fullmatch(_NO_SCORE, value):
            what = "this is --threshold, a score from 0 to 1; for a duration"
            raise GuessError(f"-t {value}: {what}, use --duration with a camera, or cut the video before")
        several = re.findall(r"[^,:+ ]+", value) if option == "--overlay" else ()
        if len(several) > 1 and {*several} <= {*_overlay_names()}:
            raise GuessError(f"{option} {value}: use {' '.join(f'{option} {name}' for name in several)}")
        own = lower if lower in (one.metavar or "").split("|") else value
        return next((name for name, others in VALUES.get(one.opts[0], {}).items() if lower in others), own)

    def _find(self, name: str) -> Guess | None:
        """Return what replaces the name of an option, or the answer; None if nothing is known."""
        long = f"--{name.lstrip('-').replace('_', '-').lower()}"
        known = ((one,) for one in (name, long if len(name) > 2 else name) if one in self.options)
        guesses = (GUESSES.get(key) for key in (f"{self.command} {long}", name, long))
        guess = next(known, None) or next((one for one in guesses if one is not None and self._fits(one)), None)
        is_overlay = guess is None and "--overlay" in self.options and long[2:] in _overlay_names()
        return ("--overlay", long[2:]) if is_overlay else guess

    def _fits(self, guess: Guess) -> bool:
        return isinstance(guess, str) or all(word[0] != "-" or word in self.options for word in guess)

    def _argument(self, word: str) -> Iterator[str]:
        """Replace words such as ``conf=0.5`` and names of overlays, unless there are files of these names."""
        name, equals, value = word.partition("=")
        guess = GUESSES.get(f"{self.command} {word}", ("--help",) if word == "help" else None)
        if self.command == "bench" and Path(word).suffix.lower() in (".mp4", ".mov", ".mkv", ".avi", ".webm"):
            yield f"--video={word}"
        elif os.path.lexists(word) and not word.startswith("/dev/"):
            yield word
        elif word[:1] == "@" and Path(word[1:]).is_file() and "--files-from" in self.options:
            yield f"--files-from={word[1:]}"
        elif isinstance(guess, str):
            raise GuessError(f"{word}: {guess}")
        elif guess is not None:
            yield from guess
        elif self.command == "models" and word.isascii() and word[:1] != "-":
            raise GuessError(f"{word}: use 'scrfd-trt models --fetch {word}' for the path of its file")
        elif equals and name.isidentifier() and self._find(f"--{name}") is not None:
            flag = value.lower() in {"true", "false"}
            yield from () if value.lower() == "false" else self._option(f"--{name}" if flag else f"--{name}={value}")
        elif "--overlay" in self.options and word.partition(":")[0] in _overlay_names():
            yield f"--overlay={word}"
        else:
            yield word


def _overlay_names() -> tuple[str, ...]:
    import overlays  # noqa: PLC0415 - slow to import

    return overlays.names()


def no_option(name: str, parameters: Iterable[Any], command: str = "") -> str:
    """Return a message on an option that a command does not have, with what may be meant."""
    parameters = [*parameters]
    options = [option for parameter in parameters for option in parameter.opts if option.startswith("--")]
    known = {key.strip("-"): guess[0] for key, guess in GUESSES.items() if isinstance(guess, tuple) and guess}
    known |= {option.strip("-"): option for option in options}
    close = get_close_matches(name.strip("-").replace("_", "-").lower(), known, 1, 0.8)
    hint = f"; did you mean {known[close[0]]}?" if close and known[close[0]] in options else ""
    hint = hint or (_elsewhere(name, options, command) if name.startswith("--") else "")
    return f"there is no option {name}{hint}"


def _elsewhere(name: str, options: list[str], command: str) -> str:
    """Return which overlay, other name or other command has an option; empty if none has it."""
    import overlays  # noqa: PLC0415 - slow to import

    words = name.strip("-").replace("_", "-").lower().split("-")
    if "--overlay" in options:
        named = _overlay_names()
        of, option = (words[:1], words[1:]) if words[0] in named and words[1:] else (named, words)
        for overlay in of:
            with suppress(ScrfdError):  # of a foreign overlay
                if found := meant_by("_".join(option), [one.name for one in overlays.describe(overlay)]):
                    return f"; overlays have it, as in --overlay {overlay}:{found}=VALUE"
    each = [(option, {*option.strip("-").split("-")}) for option in options]
    if similar := [option for option, parts in each if parts <= {*words} or {*words} <= parts]:
        return f"; there is {' and '.join(similar[:3])}"
    from scrfd_trt._cli.application import load_command  # noqa: PLC0415 - imports this module

    for other in ("detect", "anonymize", "overlay", "tracks"):
        with suppress(ScrfdError):
            params = load_command(other).params if other != command else ()
            has = {option: one for one in params if one.param_type_name == "option" for option in one.opts}
            if isinstance(guess := _Words(other, has)._find(name), tuple) and guess:
                return f"; 'scrfd-trt {other}' has {guess[0]}"
    return ""
