"""Outputs are planned before anything is written, and written whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt._cli.content import Kind
from scrfd_trt._cli.inputs import find_inputs
from scrfd_trt._cli.outputs import (
    _ignored_differences,
    atomic_output,
    check_folder,
    check_free,
    make_folder,
    plan_folder,
    save_image,
)
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.write import encode
from scrfd_trt.errors import OptionError, OutputError

IMAGE = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)
posix_only = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with atomic_output(path, kind="text", overwrite=False) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_existing_file_stays_if_writing_fails(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_output(path, kind="text", overwrite=True) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.txt"]


def test_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with (
        pytest.raises(OutputError, match=r"^cannot write .*out\.txt: No space left on device$"),
        atomic_output(path, kind="text", overwrite=False),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_existing_file_is_kept_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    with (
        pytest.raises(OptionError, match="already exists; name another file, or add --overwrite"),
        atomic_output(path, kind="text", overwrite=False),
    ):
        pytest.fail("it was opened")
    assert path.read_bytes() == b"old"


def test_file_created_while_writing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with (
        pytest.raises(OptionError, match="written by another program meanwhile"),
        atomic_output(path, kind="text", overwrite=False),
    ):
        path.write_bytes(b"of somebody else")
    assert path.read_bytes() == b"of somebody else"
    assert names(tmp_path) == ["out.txt"]


def test_folder_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(OptionError, match="is a folder; name a file"),
        atomic_output(tmp_path, kind="text", overwrite=True),
    ):
        pytest.fail("it was opened")
    with (
        pytest.raises(OptionError, match=r"there is no folder .*nowhere; create it first"),
        atomic_output(tmp_path / "nowhere" / "x", kind="text", overwrite=True),
    ):
        pytest.fail("it was opened")


@posix_only
def test_file_name_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot write .*: File name too long$"):
        save_image([ImageFrame(IMAGE)], tmp_path / f"{'x' * 300}.png", overwrite=False)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that cannot be written into")
def test_write_protected_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        for folder in (tmp_path, tmp_path / "new"):
            with pytest.raises(OutputError, match="cannot write to the folder"):
                check_folder(folder)
        with (
            pytest.raises(OutputError, match=r"cannot write .*x\.txt: Permission denied"),
            atomic_output(tmp_path / "x.txt", kind="text", overwrite=False),
        ):
            pytest.fail("it was opened")
    finally:
        tmp_path.chmod(0o755)


@posix_only
def test_suffix_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"OpenCV does not write \.\udcff; use \.png or \.jpg"):
        save_image([ImageFrame(IMAGE)], tmp_path / os.fsdecode(b"x.\xff"), overwrite=False)
    assert names(tmp_path) == []


@posix_only
def test_device_is_not_replaced(tmp_path: Path) -> None:
    with (
        pytest.raises(OptionError, match="is not a regular file"),
        atomic_output(Path(os.devnull), kind="text", overwrite=True),
    ):
        pytest.fail("it was opened")


@posix_only
def test_permissions_follow_umask_or_replaced_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_image([ImageFrame(IMAGE)], tmp_path / "new.png", overwrite=False)
        (tmp_path / "old.png").touch()
        (tmp_path / "old.png").chmod(0o604)
        save_image([ImageFrame(IMAGE)], tmp_path / "old.png", overwrite=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old.png").stat().st_mode) == 0o604


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_image_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "below" / f"größe{suffix}"
    save_image([ImageFrame(IMAGE)], path, overwrite=False)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR), IMAGE)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jfif", ".jpe", ".webp"])
def test_higher_quality_makes_larger_file(suffix: str) -> None:
    large, small = (encode(ImageFrame(IMAGE), suffix, quality=quality) for quality in (95, 20))
    assert len(large) > len(small)


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.txt"])
def test_unsupported_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot write .*x.*use \.png or \.jpg$"):
        save_image([ImageFrame(IMAGE)], tmp_path / name, overwrite=False)


def test_image_too_large_for_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*strip\.jpg") as caught:
        save_image([ImageFrame(np.zeros((1, 70_000, 3), np.uint8))], tmp_path / "strip.jpg", overwrite=False)
    assert "\n" not in str(caught.value)


def test_file_in_place_of_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(OptionError, match="a file is in the way"):
            make_folder(folder)
        with pytest.raises(OptionError, match="a file is in the way"):
            check_folder(folder)


def test_check_folder_does_not_make_it(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deeper")
    assert names(tmp_path) == []


class TestPlanFolder:
    @pytest.fixture(autouse=True)
    def tree(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("a/x.jpg", "b/x.jpg", "b/X.JPG", "b/deep/y.jpg"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    def test_relative_paths_are_kept(self) -> None:
        found = plan_folder(find_inputs(["a", "b/deep"], recursive=True), Path("out"), overwrite=False)
        assert [path.as_posix() for path in found.values()] == ["out/x.jpg", "out/y.jpg"]

    def test_second_input_with_the_same_output_is_a_problem(self) -> None:
        sources = find_inputs(["a/x.jpg", "b/x.jpg", "b/deep/y.jpg"])
        found = plan_folder(sources, Path("out"), overwrite=True)
        assert [path.as_posix() for path in found.values()] == ["out/x.jpg", "out/y.jpg"]
        problems = [source.problem for source in sources]
        assert problems[::2] == ["", ""]
        assert re.match(r"out.x\.jpg is the copy of a.x\.jpg; process b.x\.jpg alone, to another folder$", problems[1])

    def test_file_with_the_name_of_the_copy_comes_first(self) -> None:
        Path("b/photo").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
        Path("b/photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
        sources = find_inputs(["b/photo", "b/photo.jpg"])
        found = plan_folder(sources, Path("out"), overwrite=True)
        assert {source.path.name: path.name for source, path in found.items()} == {"photo.jpg": "photo.jpg"}
        assert sources[0].problem.startswith(f"{Path('out/photo.jpg')} is the copy of {Path('b/photo.jpg')}; process")

    @pytest.mark.parametrize(("ignores", "outputs"), [((False, False), 2), ((True, False), 1), ((False, True), 2)])
    def test_names_that_differ_in_case(
        self, monkeypatch: pytest.MonkeyPatch, ignores: tuple[bool, bool], outputs: int
    ) -> None:
        monkeypatch.setattr("scrfd_trt._cli.outputs._ignored_differences", lambda _: ignores)
        assert len(plan_folder(find_inputs(["a/x.jpg", "b/X.JPG"]), Path("out"), overwrite=True)) == outputs

    @pytest.mark.parametrize(("ignores", "outputs"), [((False, False), 2), ((True, False), 2), ((False, True), 1)])
    def test_names_that_differ_in_unicode_form(
        self, monkeypatch: pytest.MonkeyPatch, ignores: tuple[bool, bool], outputs: int
    ) -> None:
        names = ["a/\u00e9.jpg", "b/e\u0301.jpg"]
        for name in names:
            Path(name).touch()
        monkeypatch.setattr("scrfd_trt._cli.outputs._ignored_differences", lambda _: ignores)
        assert len(plan_folder(find_inputs(names), Path("out"), overwrite=True)) == outputs

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems ignore case")
    def test_difference_in_case_is_found_out(self) -> None:
        assert len(plan_folder(find_inputs(["b"]), Path("out"), overwrite=True)) == 2
        assert not Path("out").exists()
        assert sorted(path.name for path in Path().iterdir()) == ["a", "b"]

    def test_folder_that_cannot_be_tried_ignores_differences(self) -> None:
        assert _ignored_differences("nowhere") == (True, True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_input_is_never_replaced(self, overwrite: bool) -> None:
        with pytest.raises(OptionError, match=r"x\.jpg is the input; name another folder"):
            plan_folder(find_inputs(["a"]), Path("a"), overwrite=overwrite)
        with pytest.raises(OptionError, match=r"would (both become|replace)|is the input"):
            plan_folder(find_inputs(["a/x.jpg", "b"], recursive=True), Path("b"), overwrite=True)

    def test_existing_output_is_a_problem_of_its_input(self) -> None:
        Path("out").mkdir()
        Path("out/y.jpg").touch()
        sources = find_inputs(["a/x.jpg", "b/deep/y.jpg"])
        assert [path.as_posix() for path in plan_folder(sources, Path("out"), overwrite=False).values()] == [
            "out/x.jpg"
        ]
        assert sources[1].problem == "out/y.jpg already exists; name another folder, or add --overwrite to replace it"
        with pytest.raises(OptionError, match=r"y\.jpg already exists"):
            plan_folder(find_inputs(["b/deep/y.jpg"]), Path("out"), overwrite=False)

    def test_copy_gets_the_suffix_of_the_content(self) -> None:
        data = cv2.imencode(".png", IMAGE)[1].tobytes()
        for name in ("noext", "x.insp", "v1.2 final", "x.PNG.", "x.png "):
            Path("a", name).write_bytes(data)
        found = plan_folder(find_inputs([f"a/{path.name}" for path in Path("a").iterdir()]), Path("o"), overwrite=False)
        assert {source.path.name: path.name for source, path in found.items()} == {
            "noext": "noext.png",
            "x.insp": "x.png",
            "v1.2 final": "v1.2 final.png",
            "x.PNG.": "x.PNG",
            "x.jpg": "x.jpg",
        }

    def test_missing_inputs_get_no_output(self) -> None:
        assert plan_folder(find_inputs(["none.jpg", "other/none.jpg"]), Path("out"), overwrite=False) == {}


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("x.mkv", b"", "text", "x.mkv is a name for a video, not for text; name another file"),
        ("x.jpg", b"", "model", "x.jpg is a name for an image, not for a model; name another file"),
        ("x.onnx", b"", "text", "x.onnx is a name for a model, not for text; name another file"),
        ("x.jsonl", encode(ImageFrame(IMAGE), ".png"), "text", "x.jsonl holds an image, and text would replace it"),
        ("x.csv", b"\0\0\0\x18ftypisom" + bytes(12), "text", "x.csv holds a video, and text would replace it"),
        ("x.csv", b"\1\0\2\0\3", "text", "x.csv holds other data, and text would replace it"),
        ("x.png", b"notes", "image", "x.png holds text, and an image would replace it"),
        ("x.mp4", b"8BPS" + bytes(20), "video", "x.mp4 holds an image, and a video would replace it"),
        ("x.plan", b"notes", "model", "x.plan holds text, and a model would replace it"),
    ],
)
def test_file_of_another_kind_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, kind: Kind, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content:
        Path(name).write_bytes(content)
    with pytest.raises(OptionError, match="^" + re.escape(message)):
        check_free(Path(name), kind=kind, overwrite=True)


@pytest.mark.parametrize(("content", "kind"), [(b"", "image"), (b"a,b\n1,2\n", "text"), (b"\1\0\2", "video")])
def test_file_of_the_same_kind_is_replaced(tmp_path: Path, content: bytes, kind: Kind) -> None:
    (tmp_path / "x").write_bytes(content)
    check_free(tmp_path / "x", kind=kind, overwrite=True)


def test_standard_output_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="standard output"):
        check_folder(Path("-"))
    with pytest.raises(OptionError, match="standard output"):
        check_free(Path("-"), kind="model", overwrite=True)
    Path("-").mkdir()
    check_folder(Path("-"))


@posix_only
def test_dangling_link_exists(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("nowhere")
    with pytest.raises(OptionError, match="already exists"):
        check_free(tmp_path / "link.png", kind="image", overwrite=False)
    save_image([ImageFrame(IMAGE)], tmp_path / "link.png", overwrite=True)
    assert names(tmp_path) == ["link.png"]
