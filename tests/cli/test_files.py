from __future__ import annotations

import os
from pathlib import Path

import pytest

from scrfd_trt.cli.files import find
from scrfd_trt.errors import ImageError

posix_only = pytest.mark.skipif(os.name == "nt", reason="the words of POSIX")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/c.webp", "deep/.git/d.jpg", "deep/er/e.tiff"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("empty").mkdir()
    return tmp_path


def paths(*inputs: str, recursive: bool = False, skip: Path | None = None) -> list[str]:
    return [source.path.as_posix() for source in find(inputs, recursive=recursive, skip=skip)]


def test_a_named_file_may_be_called_anything(tree: Path) -> None:
    assert paths("notes.txt") == ["notes.txt"]


def test_a_folder_gives_its_images_by_name(tree: Path) -> None:
    assert paths(".") == ["a.PNG", "b.jpg"]


def test_recursion_leaves_out_what_is_hidden(tree: Path) -> None:
    assert paths(".", recursive=True) == ["a.PNG", "b.jpg", "deep/c.webp", "deep/er/e.tiff"]


def test_recursion_leaves_out_the_folder_that_results_go_to(tree: Path) -> None:
    assert paths(".", recursive=True, skip=Path("deep")) == ["a.PNG", "b.jpg"]


def test_a_glob_that_no_shell_expanded(tree: Path) -> None:
    assert paths("*.jpg", "deep/*") == ["b.jpg", "deep/c.webp"]
    assert paths("**/*.tiff") == ["deep/er/e.tiff"]


def test_a_file_whose_name_looks_like_a_glob(tree: Path) -> None:
    Path("b[1].jpg").write_bytes(b"x")
    assert paths("b[1].jpg") == ["b[1].jpg"]


def test_each_file_comes_once_in_the_order_given(tree: Path) -> None:
    assert paths("b.jpg", ".", str(tree / "b.jpg"), "./deep/../a.PNG") == ["b.jpg", "a.PNG"]


def test_copies_keep_the_way_from_the_folder_that_was_named(tree: Path) -> None:
    below = [source.below.as_posix() for source in find(["deep", "b.jpg"], recursive=True)]
    assert below == ["c.webp", "er/e.tiff", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.jpg", "there is no such file"),
        ("nowhere/none.jpg", "there is no such file, for there is no folder nowhere"),
        ("*.gif", "no file has a name like this"),
        pytest.param("b.jpg/x.jpg", "the file cannot be read: Not a directory", marks=posix_only),
        pytest.param("a" * 300 + ".jpg", "the file cannot be read: File name too long", marks=posix_only),
        ("empty", "the folder has no images or videos in it (.jpg, .mp4, …); --recursive looks into its folders, too"),
    ],
)
def test_what_leads_to_no_file_tells_why_at_its_turn(tree: Path, text: str, message: str) -> None:
    sources = find(["b.jpg", text])
    assert [source.problem for source in sources] == ["", message]
    sources[0].check()
    with pytest.raises(ImageError, match="^" + message[:20]):
        sources[1].check()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that cannot be read")
def test_a_folder_that_cannot_be_read(tree: Path) -> None:
    Path("empty").chmod(0)
    try:
        assert "cannot be read" in find(["empty"])[0].problem
    finally:
        Path("empty").chmod(0o755)
