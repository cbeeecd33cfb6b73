from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import overlays

pytestmark = pytest.mark.usefixtures("spots", "known_overlays")
INSIDE = (slice(45, 85), slice(50, 80))

Run = Callable[..., Any]
Picture = Callable[..., Path]


def read(path: str) -> NDArray[np.uint8]:
    image = cv2.imread(path)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_one_image_into_one_file(run: Run, picture: Picture) -> None:
    code, out, err = run("overlay", picture(), "--overlay", "skull", "-o", "out.png")
    assert (code, out, err) == (0, "", "wrote out.png: 1 face\n")
    before, after = read("spot.png"), read("out.png")
    assert (after[INSIDE] != before[INSIDE]).mean() > 0.9
    np.testing.assert_array_equal(after[:, 140:], before[:, 140:])


def test_options_and_order_of_overlays(run: Run, picture: Picture) -> None:
    picture()
    blur, points = ("--overlay", "blur:strength=1,shape=rectangle"), ("--overlay", "landmarks:box=no,score=no")
    for name, args in {"none": ("--overlay", "skull:opacity=0"), "a": blur + points, "b": points + blur}.items():
        assert run("overlay", "spot.png", *args, "-o", f"{name}.png").code == 0
    np.testing.assert_array_equal(read("none.png"), read("spot.png"))
    # Blurred points are faint; points drawn last are not.
    assert read("a.png")[INSIDE].min() < read("b.png")[INSIDE].min() - 50


def test_options_that_leave_face_recognisable_give_warning(run: Run, picture: Picture) -> None:
    code, _, err = run("overlay", picture(), "--overlay", "solid:opacity=0.5", "-o", "out.png")
    assert code == 0
    assert err.splitlines()[0] == "warning: Solid: opacity 0.5 leaves the face visible; use 1 to hide it"


def test_several_images_into_new_folder(run: Run, picture: Picture) -> None:
    picture("in/a.png")
    picture("in/deep/b.jpg", box=None)
    code, _, err = run("overlay", "in", "-r", "--overlay", "blur", "-o", "new/out")
    assert (code, err) == (0, "wrote new/out: 2 images, 1 face; 1 without a face\n")
    assert read("new/out/a.png").shape == read("new/out/deep/b.jpg").shape == (120, 160, 3)


def test_single_image_into_folder(run: Run, picture: Picture) -> None:
    Path(picture().parent, "out").mkdir()
    assert run("overlay", "spot.png", "--overlay", "blur", "-o", "out").code == 0
    assert run("overlay", "spot.png", "--overlay", "blur", "-o", "new").code == 0
    assert Path("out/spot.png").is_file()
    assert Path("new/spot.png").is_file()


def test_jpeg_quality(run: Run, picture: Picture) -> None:
    picture()
    for quality in (20, 95):
        run("overlay", "spot.png", "--overlay", "blur", "-o", f"{quality}.jpg", "--quality", quality)
    assert Path("20.jpg").stat().st_size < Path("95.jpg").stat().st_size / 2


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_input_is_never_replaced(run: Run, picture: Picture, overwrite: tuple[str, ...]) -> None:
    path = picture()
    before = path.read_bytes()
    ran = run("overlay", path, "--overlay", "blur", "-o", path, *overwrite)
    assert (ran.code, ran.error) == (2, "spot.png is the input; name another file")
    assert path.read_bytes() == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_output_is_replaced_with_overwrite_only(run: Run, picture: Picture, overwrite: tuple[str, ...]) -> None:
    path, before = picture(), picture("out.png", box=None).read_bytes()
    ran = run("overlay", path, "--overlay", "blur", "-o", "out.png", *overwrite)
    assert ran.code == (0 if overwrite else 2)
    assert (Path("out.png").read_bytes() == before) is not bool(overwrite)


def test_one_bad_input_does_not_stop_the_others(run: Run, picture: Picture) -> None:
    code, _, err = run(
        "overlay", picture("a.png"), picture("cut.jpg", keep=0.5), "none.jpg", "--overlay", "blur", "-o", "out"
    )
    assert code == 1
    done, failed = err.split("\nerror: ")  # failures come last
    assert done == "wrote out/a.png: 1 face"
    assert failed.startswith("2 of 3 inputs failed, the others succeeded:\n- cut.jpg: the file is cut off")
    assert [path.name for path in Path("out").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--overlay", "nope", "-o", "x.png"], "no overlay 'nope'"),
        (["--overlay", "skull:size=3", "-o", "x.png"], "no option 'size'; the options are: opacity"),
        (["--overlay", "skull:opacity=3", "-o", "x.png"], "opacity: must be at most 1"),
        (["--overlay", "skull:image=none.png", "-o", "x.png"], "none.png"),
        (["--overlay", "skull", "-o", "x.xyz"], "x.xyz: images are not written as .xyz; use .png or .jpg"),
        (["--overlay", "skull", "-o", "nowhere/x.png"], "there is no folder nowhere; create it first"),
        (["--overlay", "skull", "-o", "taken.png"], "taken.png already exists"),
        (["-o", "x.png"], "Missing option '--overlay'"),
    ],
)
def test_usage_error_gives_one_line_before_any_work(run: Run, picture: Picture, args: list[str], message: str) -> None:
    picture()
    Path("taken.png").write_text("mine")
    ran = run("overlay", "spot.png", *args)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.error
    assert sorted(path.name for path in Path().iterdir()) == ["spot.png", "taken.png"]


def test_several_images_and_one_file(run: Run, picture: Picture) -> None:
    picture("in/a.png")
    picture("in/b.png")
    Path("taken.png").write_text("mine")
    ran = run("overlay", "in", "--overlay", "blur", "-o", "taken.png")
    assert ran.error == "taken.png is the name of a file, but the inputs are a folder or several files; name a folder"
    for word, hint in {  # the rest of a value without quotes
        "0,0,5,5@0:01": " or folder; quote the value of --cover",
        "180": " or folder; a list of numbers has commas and no spaces, such as 1,2",
        "0.3": "; for the minimum score, use --threshold 0.3",
    }.items():
        ran = run("overlay", "in/a.png", word, "--overlay", "blur", "-o", "taken.png")
        assert ran.error == f"{word}: there is no such file{hint}"
    assert Path("taken.png").read_text() == "mine"
    assert run("overlay", "in", "--overlay", "blur", "-o", "new.png").code == 2
    assert not Path("new.png").exists()
    Path("taken").write_text("mine")
    assert "is a file, but there are several inputs" in run("overlay", "in", "--overlay", "blur", "-o", "taken").error


def test_output_folder_blocked_by_file(run: Run, picture: Picture) -> None:
    path = picture("deep/spot.png")
    Path("out").write_text("mine")
    ran = run("overlay", path, "--overlay", "blur", "-o", "out/deeper/")
    assert ran.code == 2
    assert ran.error == "out/deeper cannot be a folder: a file is in the way; name another folder"


def test_help_lists_overlays_with_options(run: Run) -> None:
    code, out, err = run("overlay", "--help")
    assert (code, err) == (0, "")
    for word in ("blur", "spotlight", "strength", "feather"):
        assert word in out.partition(" effect ")[2]


@pytest.mark.parametrize("args", [("--overlay", "skull:opacity=0.3"), ("--overlay=skull",)])
def test_help_of_named_overlay_lists_its_options(run: Run, args: tuple[str, ...]) -> None:
    code, out, err = run("overlay", *args, "--help")
    assert (code, err) == (0, "")
    assert "Draw a skull over each face" in out
    assert "number, above 0 to 10" in out
    assert "spotlight" not in out


def test_help_of_unknown_overlay_suggests_name(run: Run) -> None:
    code, out, _ = run("overlay", "--overlay", "skul", "--help")
    assert code == 0
    assert "no overlay 'skul'; did you mean 'skull'?" in out


class TestStandardOutput:
    """``-o -``: the copy that a file would have, and nothing else."""

    @pytest.fixture
    def send(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        """Return a function that runs a command and returns what it did, and the bytes of its standard output."""

        def send(*args: object, **attributes: Any) -> tuple[Any, bytes]:
            stdout = io.TextIOWrapper(io.BytesIO())
            vars(stdout).update(attributes)
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", stdout)
                return run(*args), stdout.buffer.getvalue()

        return send

    def test_image_has_format_of_input(self, run: Run, picture: Picture, send: Callable[..., Any]) -> None:
        args = ("overlay", picture("spot.jpg"), "--overlay", "blur", "-o")
        assert run(*args, "file.jpg").code == 0
        ran, data = send(*args, "-")
        assert (ran.code, ran.err) == (0, "wrote to standard output: 1 face\n")
        assert data == Path("file.jpg").read_bytes()

    def test_pipe_from_standard_input_with_an_overlay_that_prints(
        self, picture: Picture, send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = picture().read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        draw = overlays.Solid.__call__
        monkeypatch.setattr(overlays.Solid, "__call__", lambda *args, **how: print("drawing") or draw(*args, **how))
        ran, data = send("anonymize", "-", "-o", "-", "--replace-with", "solid", "-q")
        assert (ran.code, ran.err) == (0, "drawing\n")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image[INSIDE].max() == 0

    def test_video(self, film: Callable[..., Path], send: Callable[..., Any]) -> None:
        av = pytest.importorskip("av")
        film(frames=4)
        ran, data = send("anonymize", "clip.mp4", "-o", "-", "--replace-with", "solid")
        assert (ran.code, ran.err.splitlines()[0]) == (0, "wrote to standard output: 4 frames, 1 track")
        with av.open(io.BytesIO(data)) as container:
            images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert len(images) == 4
        assert all(image[INSIDE].max() < 40 for image in images)

    def test_failure_writes_nothing(self, picture: Picture, send: Callable[..., Any]) -> None:
        picture("cut.png", keep=0.5)
        picture()
        ran, data = send("anonymize", "cut.png", "-o", "-")
        assert (ran.code, data) == (1, b"")
        plan = "read spot.png, write -\n"
        assert send("anonymize", "spot.png", "-o", "-", "--dry-run", isatty=lambda: True)[1].decode() == plan
        for args, message in (
            (("spot.png", "cut.png"), "standard output takes one copy, and there are 2 inputs; name a folder"),
            (("spot.png", "--resume"), "copies cannot be written to standard output; name a file or a folder"),
            (("camera:0",), "camera:0 cannot go to standard output, because a finished video is checked; name a file"),
        ):
            ran, data = send("anonymize", *args, "-o", "-")
            assert (ran.code, ran.error, data) == (2, message, b"")

    def test_terminal_and_full_disk(
        self, picture: Picture, send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picture()
        ran, data = send("anonymize", "spot.png", "-o", "-", isatty=lambda: True)
        assert (ran.code, data) == (2, b"")
        assert ran.error == "standard output is a terminal; add > FILE or | COMMAND, or name a file"

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("shutil.copyfileobj", fail)
        ran, _ = send("anonymize", "spot.png", "-o", "-")
        assert ran.code == 1
        assert ran.error == "cannot write to standard output: No space left on device; the results are incomplete"
