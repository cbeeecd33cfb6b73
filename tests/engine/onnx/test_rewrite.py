from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from scrfd_trt import ModelFormatError, ModelNotFoundError, SCRFDDetector, samples
from scrfd_trt._engine.onnx.rewrite import prepare
from scrfd_trt._heads import recognize
from scrfd_trt._tensors import ShapeRange

FORMS = [
    pytest.param({"head": "flat"}, id="flat"),
    pytest.param({"head": "flat_rows", "resize": "sizes"}, id="flat, rows and sizes as numbers"),
    pytest.param({"head": "flat", "shape": (1, 3, "?", "?")}, id="flat of free size"),
    pytest.param({"head": "batched_rows", "resize": "sizes", "opset": 13}, id="batched, all as numbers"),
    pytest.param({"head": "traced", "shape": ("?", 3, "?", "?"), "named": True}, id="batched, all sides called ?"),
    pytest.param({"head": "batched", "resize": "scales", "opset": 18}, id="batched, free inside"),
    pytest.param({"head": "grid", "resize": "sizes"}, id="grid"),
    pytest.param({"head": "grid", "opset": 13, "named": True}, id="grid, traced"),
    pytest.param({"head": "flat", "landmarks": False}, id="no landmarks"),
    pytest.param({"head": "grid", "landmarks": False}, id="grid without landmarks"),
    pytest.param({"head": "flat", "levels": 5}, id="five strides"),
    pytest.param({"head": "flat_rows", "levels": 5, "landmarks": False, "resize": "sizes"}, id="five, no landmarks"),
    pytest.param({"head": "flat", "norm": True}, id="group norm"),
    pytest.param({"head": "flat", "norm": "traced"}, id="gnkps, flat"),
    pytest.param({"head": "traced", "norm": "traced", "shape": ("?", 3, "?", "?"), "named": True}, id="gnkps"),
    pytest.param({"head": "traced", "norm": "traced", "shape": ("?", 3, "?", "?"), "landmarks": False}, id="34g"),
]


def assert_same(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=tolerance, atol=tolerance, err_msg=str(key))


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


class TestFreeing:
    @pytest.mark.parametrize("form", FORMS)
    def test_outputs_are_unchanged_at_the_own_size(self, form, export, run, blob):
        path = export(**form)
        prepared = prepare(path, sizes=((64, 64), (96, 32)), precision="fp32")
        one = blob(1, 64, 64)
        assert_same(run(prepared.model, one), run(path, one))

    @pytest.mark.parametrize("form", [form for form in FORMS if form.values[0].get("norm") is not True])
    @pytest.mark.parametrize("size", [(128, 128), (96, 32)])
    def test_other_sizes_and_batches_match_the_free_export(self, form, size, export, free_twin, run, blob):
        prepared = prepare(export(**form), sizes=((64, 64), size), precision="fp32")
        twin = free_twin(**{key: form[key] for key in ("levels", "landmarks", "norm") if key in form})
        three = blob(3, *size)
        together = run(prepared.model, three)
        assert_same(together, run(twin, three))
        alone = [run(prepared.model, three[index : index + 1]) for index in range(3)]
        assert_same(together, {key: np.concatenate([rows[key] for rows in alone]) for key in together})

    def test_group_norm_at_another_size_and_batch(self, export, run, blob):
        prepared = prepare(export(norm=True), sizes=((64, 64), (96, 32)), precision="fp32")
        same = prepare(export(norm=True, shape=(1, 3, 32, 96)), sizes=((96, 32),), precision="fp32")
        two = blob(2, 96, 32)
        assert_same(run(prepared.model, two), run(same.model, two))

    @pytest.mark.parametrize("landmarks", [True, False], ids=["gnkps", "34g"])
    def test_models_with_group_norms_see_the_padding_on_the_cpu_too(self, landmarks, free_twin):
        images = [samples.load("group-640x480").image, samples.load("portrait").image]
        options = {"device": "cpu", "scales": 128, "threshold": 0.9, "max_faces": 20}
        with SCRFDDetector.from_onnx(free_twin(landmarks=landmarks, norm="traced"), **options) as detector:
            found = detector.detect_batch(images)
            assert not detector._pipeline.cuts_padding
            for image, faces in zip(images, found, strict=True):
                alone = detector.detect(image)
                assert len(faces)
                assert (faces.landmarks is not None) == landmarks
                np.testing.assert_allclose(faces.boxes, alone.boxes, rtol=1e-4)
        with SCRFDDetector.from_onnx(free_twin(), **options) as detector:
            assert detector._pipeline.cuts_padding

    def test_free_sides_have_distinct_names(self, free_twin):
        graph = onnx.load_model_from_string(prepare(free_twin(), sizes=((64, 64), (96, 32))).model).graph
        assert dims(graph.input[0]) == ["batch", 3, "height", "width"]
        assert [dims(value) for value in graph.output[:3]] == [
            ["batch", "rows_score_8", 1],
            ["batch", "rows_score_16", 1],
            ["batch", "rows_score_32", 1],
        ]

    def test_free_sides_of_a_grid_have_distinct_names(self, export):
        graph = onnx.load_model_from_string(prepare(export(head="grid"), sizes=((64, 64), (96, 32))).model).graph
        assert dims(graph.output[0]) == ["batch", 2, "height_8", "width_8"]
        assert dims(graph.output[8]) == ["batch", 20, "height_32", "width_32"]

    def test_shape_arithmetic_is_removed(self, free_twin):
        for form in ({}, {"landmarks": False}):
            graph = onnx.load_model_from_string(prepare(free_twin(**form)).model).graph
            assert {node.op_type for node in graph.node} == {
                "Add", "Cast", "Conv", "Relu", "Reshape", "Resize", "Sigmoid", "Transpose"
            }  # fmt: skip


class TestFixing:
    @pytest.mark.parametrize("form", FORMS)
    def test_one_size_and_one_batch_are_fixed(self, form, export, run, blob):
        form = {**form, "norm": False}
        prepared = prepare(export(**form), sizes=((96, 32),), batch=(2, 2, 2), precision="fp32")
        graph = onnx.load_model_from_string(prepared.model).graph
        assert dims(graph.input[0]) == [2, 3, 32, 96]
        assert all(isinstance(side, int) for value in graph.output for side in dims(value))
        assert prepared.input.shape == (2, 3, 32, 96)
        assert prepared.ranges == (ShapeRange((2, 3, 32, 96), (2, 3, 32, 96), (2, 3, 32, 96)),)
        outputs = run(prepared.model, blob(2, 96, 32))
        assert outputs["score", 8].shape[1] == 4 * 12 * (1 if form.get("levels") == 5 else 2)

    def test_one_size_with_a_range_of_batches(self, export):
        prepared = prepare(export(), sizes=((96, 32),))
        assert prepared.input.shape == (None, 3, 32, 96)
        assert prepared.outputs[0].shape == (None, 96, 1)
        assert prepared.ranges == (
            ShapeRange((1, 3, 32, 96), (1, 3, 32, 96), (1, 3, 32, 96)),
            ShapeRange((1, 3, 32, 96), (8, 3, 32, 96), (32, 3, 32, 96)),
        )

    def test_own_size_is_the_default(self, export):
        assert prepare(export()).sizes == ((64, 64),)
        assert prepare(export(shape=(1, 3, 32, 96))).sizes == ((96, 32),)

    def test_two_sizes_are_the_default_for_a_free_size(self, free_twin):
        prepared = prepare(free_twin(), batch=(1, 1, 4), batch_one=False)
        assert prepared.sizes == ((128, 128), (640, 640))
        assert [shape.max for shape in prepared.ranges] == [(4, 3, 128, 128), (4, 3, 640, 640)]


class TestOutputs:
    def test_are_named_after_their_strides(self, export):
        prepared = prepare(export())
        assert [output.name for output in prepared.outputs][::3] == ["score_8", "bbox_8", "kps_8"]
        assert "outputs named after their strides" in prepared.notes

    def test_are_renamed_in_another_order_and_with_swapped_names(self, export, run, blob):
        def turn(model):
            outputs = list(model.graph.output)[::-1]
            del model.graph.output[:]
            model.graph.output.extend(outputs)
            names = {outputs[0].name: "bbox_8", outputs[5].name: "score_16"}
            for node in model.graph.node:
                node.output[0] = names.get(node.output[0], node.output[0])
            for value in model.graph.output:
                value.name = names.get(value.name, value.name)

        path = export(change=turn)
        prepared = prepare(path, sizes=((64, 64), (96, 32)), precision="fp32")
        assert [output.name for output in prepared.outputs][:4] == ["kps_32", "kps_16", "kps_8", "bbox_32"]
        assert_same(run(prepared.model, blob(1, 64, 64)), run(path, blob(1, 64, 64)))

    def test_keep_names_with_strides(self, export):
        assert [output.name for output in prepare(export(named=True)).outputs][:2] == ["score_8", "score_16"]

    def test_layout_of_the_rewritten_model(self, export):
        layout = recognize(prepare(export(head="flat_rows", resize="sizes"), sizes=((64, 64), (96, 32))).outputs)
        assert layout.kind == "batched"
        assert layout.scores == (0, 1, 2)


class TestStuckHeads:
    def test_own_batch_and_size_are_supported(self, export, run, blob):
        path = export(head="squeezed")
        prepared = prepare(path, batch=(1, 1, 1), precision="fp32")
        assert prepared.outputs[0].shape == (128, 1)
        assert_same(run(prepared.model, blob(1, 64, 64)), run(path, blob(1, 64, 64)))

    def test_another_batch_is_refused_with_the_reason(self, export):
        with pytest.raises(ModelFormatError, match=r"batch 32 at 64×64 pixels: its output.*Squeeze.*own"):
            prepare(export(head="squeezed"))

    def test_fixed_reshape_before_the_head_is_found(self, export):
        def bind(model):
            head = next(node for node in model.graph.node if node.op_type == "Transpose")
            shape = onnx.numpy_helper.from_array(np.array([1, 2, 8, 8]), "bound")
            model.graph.initializer.append(shape)
            place = list(model.graph.node).index(head)
            model.graph.node.insert(place, onnx.helper.make_node("Reshape", [head.input[0], "bound"], ["again"]))
            head.input[0] = "again"

        path = export(change=bind)
        assert prepare(path, batch=(1, 1, 1)).input.shape == (1, 3, 64, 64)
        with pytest.raises(ModelFormatError, match="does not support batch 32 at 64×64 pixels"):
            prepare(path)


def test_missing_file(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"none\.onnx: there is no such file"):
        prepare(tmp_path / "none.onnx")


def test_import_of_build_does_not_import_onnx(root):
    code = "import sys, scrfd_trt._engine.build; sys.exit(bool({'onnx', 'onnxruntime'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_notes_list_the_changes(export):
    notes = prepare(export(head="flat_rows", resize="sizes")).notes
    assert notes[0].startswith("the file: images 1×3×64×64; flat head")
    assert "2 Resize given a factor instead of a size" in notes
    assert "heads given a batch axis" in notes
    assert "batch free, size 64×64" in notes
    assert any(note.startswith("cast to FP16:") for note in notes)
    assert not any("\n" in note for note in notes)
