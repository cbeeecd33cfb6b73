"""The examples work, on a drawn scene of six people."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector, samples

SCENE = samples.load("group")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "group.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), SCENE.image)
    return path


@pytest.fixture
def run_example(root, network_500m, monkeypatch, capsys):
    """Run an example as a script, and return what it printed."""

    def run(name: str, *arguments: Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(root / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def change(path: Path) -> np.ndarray:
    """Mean change of each pixel against the scene."""
    return np.abs(cv2.imread(str(path)).astype(float) - SCENE.image).mean(axis=2)


def face_and_corner(changed: np.ndarray) -> tuple[float, float]:
    x1, y1, x2, y2 = SCENE.faces.boxes[0].astype(int)
    return float(changed[y1:y2, x1:x2].mean()), float(changed[:40, :40].mean())


def test_detect_photo_prints_and_aligns_each_face(run_example, photo):
    printed = run_example("detect_photo.py", photo)
    assert printed.splitlines()[0] == f"{photo}: {len(SCENE.faces)} faces"
    crops = [cv2.imread(str(path)) for path in sorted(photo.parent.glob("group_face*.png"))]
    assert [crop.shape for crop in crops] == [(112, 112, 3)] * len(SCENE.faces)


def test_anonymize_folder_hides_only_faces(run_example, photo, network_500m):
    (photo.parent / "notes.txt").write_text("no photograph")
    (photo.parent / "cut.png").write_bytes(photo.read_bytes()[:100])
    target = photo.parent.parent / "hidden"
    printed = run_example("anonymize_folder.py", photo.parent, target)
    assert "group.png: 6 faces hidden" in printed
    assert "cut.png: left out: the " in printed
    assert [path.name for path in target.iterdir()] == ["group.png"]
    face, corner = face_and_corner(change(target / "group.png"))
    assert face > 8
    assert corner == 0
    with SCRFDDetector.from_onnx(network_500m) as detector:
        assert len(detector.detect(cv2.imread(str(target / "group.png")))) < len(SCENE.faces)


def test_anonymize_folder_does_not_overwrite_photographs(run_example, photo):
    before = photo.read_bytes()
    with pytest.raises(SystemExit, match="name another folder"):
        run_example("anonymize_folder.py", photo.parent, photo.parent / ".." / photo.parent.name)
    assert photo.read_bytes() == before


@pytest.mark.slow
def test_anonymize_video_hides_the_faces_of_a_clip(run_example, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height = SCENE.faces.image_size
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(SCENE.image, "bgr24")))
        container.mux(stream.encode())
    printed = run_example("anonymize_video.py", tmp_path / "clip.mp4", tmp_path / "hidden.mp4")
    assert "hidden.mp4: 5 frames, " in printed.splitlines()[0]
    with av.open(str(tmp_path / "hidden.mp4")) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(images) == 5
    cv2.imwrite(str(tmp_path / "last.png"), images[-1])
    face, corner = face_and_corner(change(tmp_path / "last.png"))
    assert face > 8
    assert corner < 4


def test_custom_overlay_darkens_all_but_the_faces(run_example, photo):
    target = photo.parent / "spotlight.png"
    run_example("custom_overlay.py", photo, target)
    face, corner = face_and_corner(change(target))
    assert corner > 5 * face


def test_webcam_covers_the_faces_of_each_frame(run_example, photo):
    """A video file replaces the camera."""
    clip, target = photo.parent / "clip.avi", photo.parent / "last.png"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, SCENE.image.shape[1::-1])
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write clips")
    for _ in range(2):
        writer.write(SCENE.image)
    writer.release()
    run_example("webcam.py", "--camera", clip, "--overlay", "solid:fill=white", "--save", target)
    face, corner = face_and_corner(change(target))
    assert face > 60
    assert corner < 5
    with pytest.raises(SystemExit, match=r"nothing.avi cannot be opened"):
        run_example("webcam.py", "--camera", photo.parent / "nothing.avi", "--save", target)


def test_embeddings_tell_faces_apart(run_example, photo, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    pool = helper.make_node("AveragePool", ["data"], ["pooled"], kernel_shape=[28, 28], strides=[28, 28])
    flat = helper.make_node("Flatten", ["pooled"], ["embedding"])
    data, out = ("data", [1, 3, 112, 112]), ("embedding", [1, 48])
    ends = [[helper.make_tensor_value_info(name, kind, shape)] for name, shape in (data, out)]
    model = helper.make_model(helper.make_graph([pool, flat], "tiny", *ends), ir_version=8)
    model.opset_import[0].version = 13
    onnx.save(model, tmp_path / "arcface.onnx")
    lines = run_example("embeddings.py", tmp_path / "arcface.onnx", photo, photo).splitlines()
    assert lines == [
        f"face {n} of {photo}: most like face {n} of {photo}, similarity 1.00" for n in range(len(SCENE.faces))
    ]


def test_calls_of_insightface(root, network_500m):
    app = runpy.run_path(str(root / "examples" / "like_insightface.py"))["FaceAnalysis"]()
    app.prepare(ctx_id=-1, det_thresh=0.5, det_size=(640, 640))
    faces = app.get(SCENE.image)
    with SCRFDDetector.from_onnx(network_500m, scales=640) as detector:
        expected = detector.detect(SCENE.image)
    assert [face.det_score for face in faces] == expected.scores.tolist()
    assert np.array_equal([face["bbox"] for face in faces], expected.boxes)
    assert np.array_equal([face.kps for face in faces], expected.landmarks)
    assert len(app.get(SCENE.image, max_num=2)) == 2
    assert np.array_equal(app.draw_on(SCENE.image, faces), expected.plot(SCENE.image))
    assert faces[0].embedding is None
    faces[0].embedding = 5
    assert faces[0]["embedding"] == 5


@pytest.mark.filterwarnings("ignore")
def test_faces_of_a_data_set_of_hugging_face(run_example, photo, monkeypatch, tmp_path):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    assert run_example("hf_datasets.py", photo.parent).splitlines() == [f"image 0: {len(SCENE.faces)} faces"]


def test_torch_tensors_as_input_and_output(run_example, photo):
    pytest.importorskip("torch")
    printed = run_example("torch_tensors.py", photo)
    assert printed.strip() == "6 faces, boxes (6, 4), batch (6, 3, 112, 112) of torch.float32"


@pytest.mark.filterwarnings("ignore")
def test_notebook_runs(root, network_500m):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(root / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    kinds = [kind for cell in notebook.cells for out in cell.get("outputs", []) for kind in out.get("data", {})]
    assert (kinds.count("image/jpeg"), kinds.count("text/html")) == (3, 1)
