from __future__ import annotations

import json
import pickle
from types import SimpleNamespace

import pytest

from scrfd_trt import Detections, DetectorOptions, errors
from scrfd_trt._image_files.read import read_image
from scrfd_trt.errors import OptionError, ScrfdError, one_line, shown, without_frames
from scrfd_trt.video import VideoReader

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ScrfdError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_keep_message_and_fields_when_pickled(kind: type[ScrfdError]) -> None:
    error = pickle.loads(pickle.dumps(kind("cut off", subject="a.mp4", fields=["damaged"])))
    assert (type(error), str(error)) == (kind, "a.mp4: cut off")
    assert (error.subject, error.reason, error.fields) == ("a.mp4", "cut off", ("damaged",))


@pytest.mark.parametrize("kind", KINDS)
def test_within_prepends_a_subject_and_keeps_the_attributes(kind: type[ScrfdError]) -> None:
    error = kind("cut off", subject="frame 3", fields=["damaged"]).within("a.mp4")
    assert (type(error), str(error)) == (kind, "a.mp4: frame 3: cut off")
    assert (error.subject, error.reason, error.fields) == ("a.mp4", "frame 3: cut off", ("damaged",))


def test_option_errors_have_value_and_choices() -> None:
    error = pickle.loads(pickle.dumps(OptionError("no", fields=["io"], value="int8", choices=["float32"]).within("x")))
    assert (error.fields, error.value, error.choices) == (("io",), "int8", ("float32",))


def test_option_errors_name_the_invalid_fields() -> None:
    from scrfd_trt._options import DetectorOptions

    with pytest.raises(OptionError) as caught:
        DetectorOptions(iou=2, scales=(640, 100))
    assert caught.value.fields == ("iou", "scales.1.0", "scales.1.1")
    assert caught.value.value == 2


@pytest.mark.parametrize(
    ("message", "line"),
    [("one\n  two\r\nthree ", "one two three"), ("", "ValueError"), ("x" * 600, "x" * 499 + "…")],
)
def test_foreign_messages_fit_on_one_line(message: str, line: str) -> None:
    assert one_line(ValueError(message)) == line


def test_library_messages_contain_no_command_line_options() -> None:
    import re
    from pathlib import Path

    root = Path(errors.__file__).parent
    sources = [
        path
        for path in [*root.rglob("*.py"), *root.parent.glob("overlays/*.py")]
        if not {"_cli", "_studio"} & {*path.parts}
    ]
    assert len(sources) > 50
    known = r"--(force-reinstall|system-site-packages|overlay\b)"  # options of pip and venv, and of a docstring
    for path in sources:
        text = re.sub(known, "", path.read_text("utf-8"))
        assert not re.search(r"(?<![\w-])--[a-z]", text), path


def test_messages_are_short_whatever_was_passed() -> None:
    line = str(OptionError(f"what is wrong with {'x' * 200_000}: what to do"))
    assert line.startswith("what is wrong with xxx")
    assert line.endswith("xxx: what to do")
    assert len(line) < 1000
    for value in ([0] * 10_000_000, b"x" * 50_000_000, "x" * 50_000_000):
        assert len(shown(value)) == 60
    for wrong in (lambda: DetectorOptions(rotations=(1,) * 100), lambda: Detections("x" * 200_000, [1], image_size=1)):
        with pytest.raises(ScrfdError) as caught:
            wrong()
        assert len(str(caught.value)) < 600
    with pytest.raises(OptionError, match=r"rotations.0: .*; and 95 more"):
        DetectorOptions(rotations=(1,) * 100)


def test_messages_have_one_line():
    error = OptionError("a\nb\u2028", subject="c\r\nd")
    assert str(error) == r"c\r\nd: a\nb\u2028"
    assert str(error.within("e\x85")) == r"e\x85: c\r\nd: a\nb\u2028"


def test_causes_in_a_ring_lose_their_frames() -> None:
    first, second = ScrfdError("first"), ValueError("second")
    try:
        raise first from second
    except ScrfdError:
        second.__cause__ = first
    assert without_frames(first).__traceback__ is None


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "scrfd-trt[video]"'),
        ({"url": "file:///nowhere/scrfd", "dir_info": {"editable": True}}, 'pip install "scrfd-trt[video]"'),
        ({"url": "file:///tmp", "dir_info": {"editable": True}}, 'pip install -e "/tmp[video]"'),
        ({"url": "file:///tmp", "dir_info": {}}, 'pip install "/tmp[video]"'),
        (
            {"url": "https://a.b/c.git", "vcs_info": {"vcs": "git", "commit_id": "12ab"}},
            'pip install "scrfd-trt[video] @ git+https://a.b/c.git@12ab"',
        ),
        ({"url": "https://a.b/c.whl", "archive_info": {}}, 'pip install "scrfd-trt[video] @ https://a.b/c.whl"'),
    ],
)
def test_extras_are_installed_from_where_the_program_came(monkeypatch, origin, command):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    found = SimpleNamespace(read_text=lambda name: None if origin is None else json.dumps(origin))
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: found)
    error = errors.MissingDependencyError('videos need PyAV: pip install "scrfd-trt[video]"')
    assert str(error.within("a.mp4")) == f"a.mp4: videos need PyAV: {command}"


def test_missing_files_are_files_that_are_not_found(tmp_path):
    for kind, name in ((errors.ImageError, "a.jpg"), (errors.VideoError, "a.mp4")):
        with pytest.raises(FileNotFoundError) as caught:
            read_image(tmp_path / name) if name == "a.jpg" else VideoReader(tmp_path / name)
        assert isinstance(caught.value, kind)
