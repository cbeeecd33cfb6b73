from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from scrfd_trt import MissingDependencyError, ModelFormatError
from scrfd_trt._decode import Candidates
from scrfd_trt._engine.onnx.rewrite import prepare
from scrfd_trt._engine.onnx.verify_rewrite import EXACT, FP16, RIVAL, SAME_FACE, Rows, compare, differences, rows_of
from scrfd_trt._heads import HeadLayout
from scrfd_trt.errors import installable


def alter(prepared, change):
    model = onnx.load_model_from_string(prepared.model)
    change(model)
    return replace(prepared, model=model.SerializeToString())


def first_weight(model):
    return next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)


class TestAgreements:
    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    @pytest.mark.parametrize("form", [{}, {"head": "grid"}, {"levels": 5, "landmarks": False}, {"norm": True}])
    def test_own_size(self, precision, form, export):
        path = export(**form)
        (found,) = compare(path, prepare(path, precision=precision))
        assert found.size == (64, 64)
        assert found.score <= (EXACT if precision == "fp32" else FP16).score
        assert re.match(r"64×64: scores within .*, boxes within .* px, \d+ faces", str(found))

    def test_sizes_that_the_file_does_not_support(self, export):
        path = export(resize="sizes", head="flat_rows")
        found = compare(path, prepare(path, sizes=((96, 32), (64, 64)), precision="fp32"))
        assert [agreement.size for agreement in found] == [(96, 32), (64, 64)]

    def test_fixed_batch(self, export):
        path = export(head="grid")
        (found,) = compare(path, prepare(path, sizes=((96, 32),), batch=(3, 3, 3), io="float16"))
        assert found.score <= FP16.score

    def test_fp16_file(self, export, tmp_path):
        path = tmp_path / "half.onnx"
        path.write_bytes(prepare(export(), io="float16").model)
        assert compare(path, prepare(path, sizes=((96, 32),)))[0].score <= FP16.score


class TestDisagreements:
    def test_other_weights(self, export):
        def change(model):
            tensor = first_weight(model)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))

        path = export()
        prepared = alter(prepare(path, precision="fp32"), change)
        with pytest.raises(
            ModelFormatError,
            match=r"differs from this file: at batch 1 and 64×64 pixels scores differ",
        ):
            compare(path, prepared)

    def test_mixed_up_images_of_a_batch(self, export):
        """A transpose moves the batch between cells and anchors; a single image does not show it."""

        def change(model):
            for node in model.graph.node:
                if node.op_type == "Transpose":
                    node.attribute[0].ints[:] = [2, 3, 0, 1]
                    reshape = next(other for other in model.graph.node if node.output[0] in other.input)
                    shape = next(item for item in model.graph.initializer if item.name == reshape.input[1])
                    width = int(numpy_helper.to_array(shape)[2])
                    node.output[0] += "_mixed"
                    folded = numpy_helper.from_array(np.array([2, -1, width]), shape.name)
                    reshape.input[0] = node.output[0]
                    shape.CopyFrom(folded)

        path = export()
        prepared = alter(prepare(path, batch=(2, 2, 2), precision="fp32"), change)
        with pytest.raises(ModelFormatError, match=r"at batch 2 and 64×64 pixels scores differ"):
            compare(path, prepared)

    def test_activations_beyond_fp16(self, export):
        """Activations reach a million, and the next weights scale them back: finite in FP32, infinite in FP16."""

        def blow_up(model):
            convs = [node for node in model.graph.node if node.op_type == "Conv"][:2]
            tensors = {tensor.name: tensor for tensor in model.graph.initializer}
            for names, factor in ((convs[0].input[1:], 1e5), (convs[1].input[1:2], 1e-5)):
                for name in names:
                    values = numpy_helper.to_array(tensors[name]) * np.float32(factor)
                    tensors[name].CopyFrom(numpy_helper.from_array(values, name))

        path = export(change=blow_up)
        compare(path, prepare(path, precision="fp32"))
        with pytest.raises(ModelFormatError, match=r"exceeds FP16's range; choose precision tf32 or fp32") as caught:
            compare(path, prepare(path))
        assert "\n" not in str(caught.value)

    def test_model_that_does_not_load(self, export):
        path = export()
        with pytest.raises(ModelFormatError, match="this is not an ONNX model, or it is damaged"):
            compare(path, replace(prepare(path, precision="fp32"), model=b"nothing"))

    def test_without_onnx_runtime(self, export, monkeypatch):
        path = export()
        prepared = prepare(path)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingDependencyError, match=re.escape(installable('pip install "scrfd-trt[cpu]"'))):
            compare(path, prepared)


def rows(scores, boxes, faces=None):
    values = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.array(scores, np.float32)
    found = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), None) if faces is None else faces
    return Rows(scores, values, np.full(len(scores), 8, np.float32), found, np.full(len(found), 0.9))


def face(score, x=0.0):
    return Candidates(np.array([[x, 0, x + 100, 100]], np.float32), np.array([score], np.float32), None)


class TestDifferences:
    def test_are_returned(self):
        one, other = rows([0.9, 0.1], [[5, 5, 5, 5], [1, 1, 1, 1]]), rows([0.89, 0.1], [[5, 5, 5.1, 5], [9, 9, 9, 9]])
        score, box = differences(one, other, FP16)
        assert score == pytest.approx(0.01)
        assert box == pytest.approx(0.1)

    def test_empty_rows_agree(self):
        assert differences(rows([], []), rows([], []), EXACT) == (0.0, 0.0)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nonfinite_values(self, value):
        with pytest.raises(ModelFormatError, match="FP16's range"):
            differences(rows([0.9], [[5, 5, 5, 5]]), rows([0.9], [[5, 5, 5, value]]), FP16)

    def test_scores(self):
        with pytest.raises(ModelFormatError, match=r"up to 0\.03, where 0\.02"):
            differences(rows([0.9], [[5, 5, 5, 5]]), rows([0.87], [[5, 5, 5, 5]]), FP16)

    def test_boxes(self):
        with pytest.raises(ModelFormatError, match=r"up to 5\.0% of their size, where 2\.0%"):
            differences(rows([0.9], [[50, 50, 50, 50]]), rows([0.9], [[50, 50, 55, 50]]), FP16)

    @pytest.mark.parametrize(
        ("expected", "found", "kind"),
        [(face(0.9), face(0.9, 50), "missing"), (face(0.505), face(0.9), "new"), (face(0.9), None, "missing")],
    )
    def test_faces(self, expected, found, kind):
        found_rows = rows([], [], found)
        if kind == "new":
            expected = Candidates(expected.boxes + 300, expected.scores, None)
        with pytest.raises(ModelFormatError, match=rf"a face of score 0\.90 at \[.*\] is {kind}"):
            differences(rows([], [], expected), found_rows, FP16)

    def test_nms_may_keep_either_of_two_boxes_with_the_same_score(self):
        def two(first, second):
            """Two boxes of 32 pixels, 8 pixels apart."""
            layout = HeadLayout("batched", (8,), 1, (0,), (1,), None)
            scores = np.zeros((1, 64, 1), np.float32)
            scores[0, [27, 28], 0] = first, second
            boxes = np.full((1, 64, 4), 2, np.float32)
            return rows_of(layout, [scores, boxes], 0, (64, 64), FP16.score)

        assert two(0.9, 0.895).min_iou.tolist() == [RIVAL]
        assert two(0.9, 0.85).min_iou.tolist() == [SAME_FACE]
        differences(two(0.9, 0.895), two(0.895, 0.9), FP16)
        differences(two(0.9, 0.87), two(0.89, 0.88), FP16)

    def test_faces_at_the_threshold_are_ignored(self):
        differences(rows([], [], face(0.51)), rows([], []), FP16)
