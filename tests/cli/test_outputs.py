"""Outputs are planned before anything is written, and written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt._cli.inputs import find_inputs
from scrfd_trt._cli.outputs import atomic_output, check_folder, encode, make_folder, plan_folder, save_image
from scrfd_trt.errors import OptionError, OutputError

IMAGE = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8)
posix_only = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with atomic_output(path, overwrite=False) as file:
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
        with atomic_output(path, overwrite=True) as file:
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
        atomic_output(path, overwrite=False),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_existing_file_is_kept_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    with (
        pytest.raises(OptionError, match="already exists; name another file, or add --overwrite"),
        atomic_output(path, overwrite=False),
    ):
        pytest.fail("it was opened")
    assert path.read_bytes() == b"old"


def test_file_created_while_writing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with pytest.raises(OptionError, match="already exists"), atomic_output(path, overwrite=False):
        path.write_bytes(b"of somebody else")
    assert path.read_bytes() == b"of somebody else"
    assert names(tmp_path) == ["out.txt"]


def test_folder_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is a folder; name a file"), atomic_output(tmp_path, overwrite=True):
        pytest.fail("it was opened")
    with (
        pytest.raises(OptionError, match=r"there is no folder .*nowhere; create it first"),
        atomic_output(tmp_path / "nowhere" / "x", overwrite=True),
    ):
        pytest.fail("it was opened")


@posix_only
def test_file_name_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot write .*: File name too long$"):
        save_image(IMAGE, tmp_path / f"{'x' * 300}.png", overwrite=False)
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
            atomic_output(tmp_path / "x.txt", overwrite=False),
        ):
            pytest.fail("it was opened")
    finally:
        tmp_path.chmod(0o755)


@posix_only
def test_suffix_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"OpenCV does not write \.\udcff; use \.png or \.jpg"):
        save_image(IMAGE, tmp_path / os.fsdecode(b"x.\xff"), overwrite=False)
    assert names(tmp_path) == []


@posix_only
def test_device_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not a regular file"), atomic_output(Path(os.devnull), overwrite=True):
        pytest.fail("it was opened")


@posix_only
def test_permissions_follow_umask_or_replaced_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_image(IMAGE, tmp_path / "new.png", overwrite=False)
        (tmp_path / "old.png").touch()
        (tmp_path / "old.png").chmod(0o604)
        save_image(IMAGE, tmp_path / "old.png", overwrite=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old.png").stat().st_mode) == 0o604


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_image_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "below" / f"größe{suffix}"
    save_image(IMAGE, path, overwrite=False)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR), IMAGE)


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.jfif", "x.jpe", "x.webp"])
def test_higher_quality_makes_larger_file(name: str) -> None:
    assert len(encode(IMAGE, Path(name), 95)) > len(encode(IMAGE, Path(name), 20))


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.txt"])
def test_unsupported_suffix_is_refused(name: str) -> None:
    with pytest.raises(OutputError, match=r"^cannot write x.*use \.png or \.jpg$"):
        encode(IMAGE, Path(name))


def test_image_too_large_for_format_is_refused() -> None:
    with pytest.raises(OutputError, match=r"cannot write strip\.jpg") as caught:
        encode(np.zeros((1, 70_000, 3), np.uint8), Path("strip.jpg"))
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

    @pytest.mark.parametrize("pair", [("a/x.jpg", "b/x.jpg"), ("a/x.jpg", "b/X.JPG")])
    def test_two_inputs_with_one_output_are_refused(self, pair: tuple[str, str]) -> None:
        with pytest.raises(OptionError, match=r"a.x\.jpg and b.[xX]\.(jpg|JPG) would both become"):
            plan_folder(find_inputs(pair), Path("out"), overwrite=True)

    def test_input_is_replaced_only_by_its_own_copy(self) -> None:
        (own,) = plan_folder(find_inputs(["a"]), Path("a"), overwrite=True).values()
        assert own == Path("a/x.jpg")
        with pytest.raises(OptionError, match=r"would (both become|replace)"):
            plan_folder(find_inputs(["a/x.jpg", "b"], recursive=True), Path("b"), overwrite=True)

    def test_input_is_not_replaced_without_overwrite(self) -> None:
        with pytest.raises(OptionError, match=r"x\.jpg already exists"):
            plan_folder(find_inputs(["a"]), Path("a"), overwrite=False)

    def test_missing_inputs_get_no_output(self) -> None:
        assert plan_folder(find_inputs(["none.jpg", "other/none.jpg"]), Path("out"), overwrite=False) == {}
