from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from scrfd_trt import ModelFormatError, OptionError
from scrfd_trt._engine.onnx.fp16 import with_rounding
from scrfd_trt._engine.onnx.rewrite import prepare

helper = onnx.helper
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def types(model):
    """Return the element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model), strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return graph, found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def set_weight(name, values):
    """Replace the first values of a weight."""

    def change(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[: len(values)] = values
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return change


class TestTypes:
    @pytest.mark.parametrize("io", ["float32", "float16"])
    @pytest.mark.parametrize("form", [{}, {"head": "grid"}, {"norm": True}, {"opset": 18, "head": "batched"}])
    def test_convolutions_are_fp16_and_io_as_requested(self, io, form, export):
        graph, kinds = types(prepare(export(**form), io=io).model)
        for node in graph.node:
            if node.op_type in {"Conv", "Relu", "Add", "Transpose"}:
                assert {kinds[name] for name in (*node.input, *node.output)} == {HALF}
            if node.op_type == "Sigmoid":
                assert kinds[node.input[0]] == FLOAT
        ends = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        assert ends == {FLOAT if io == "float32" else HALF}

    def test_only_io_and_sigmoids_are_cast(self, export):
        graph, _ = types(prepare(export()).model)
        assert [node.op_type for node in graph.node].count("Cast") == 10

    def test_only_sigmoids_are_cast_with_fp16_io(self, export):
        graph, _ = types(prepare(export(), io="float16").model)
        sigmoids = {name for node in graph.node if node.op_type == "Sigmoid" for name in (*node.input, *node.output)}
        casts = [node for node in graph.node if node.op_type == "Cast"]
        assert len(casts) == 6
        assert all(sigmoids.intersection((*node.input, *node.output)) for node in casts)

    def test_scales_stay_fp32(self, export):
        graph, kinds = types(prepare(export()).model)
        resizes = [node for node in graph.node if node.op_type == "Resize"]
        assert len(resizes) == 2
        for node in resizes:
            assert [kinds[name] for name in node.input] == [HALF, FLOAT, FLOAT]
            scales = next(tensor for tensor in graph.initializer if tensor.name == node.input[2])
            assert numpy_helper.to_array(scales).tolist() == [1, 1, 2, 2]

    def test_sums_over_feature_maps_stay_fp32(self, export):
        graph, kinds = types(prepare(export(norm=True)).model)
        norms = [node for node in graph.node if node.op_type == "InstanceNormalization"]
        assert len(norms) == 3
        for node in norms:
            assert {kinds[name] for name in (*node.input, *node.output)} == {FLOAT}

    def test_shape_arithmetic_stays_fp32(self, export):
        def scale_by_shape(model):
            """Compute a factor of 1 from a shape, as exporters do for ``scale_factor``, and multiply by it."""
            nodes, first = [], model.graph.node[0]
            numbers = {"big": np.array([64 * 7e4], np.float32), "two": np.array([2]), "by": np.array(7e4, np.float32)}
            model.graph.initializer.extend([numpy_helper.from_array(value, name) for name, value in numbers.items()])
            nodes.append(helper.make_node("Shape", ["images"], ["shape"]))
            nodes.append(helper.make_node("Gather", ["shape", "two"], ["side"]))
            nodes.append(helper.make_node("Cast", ["side"], ["float_side"], to=FLOAT))
            nodes.append(helper.make_node("Mul", ["float_side", "by"], ["large"]))
            nodes.append(helper.make_node("Div", ["large", "big"], ["one"]))
            nodes.append(helper.make_node("Mul", ["images", "one"], ["scaled"]))
            first.input[0] = "scaled"
            for place, node in enumerate(nodes):
                model.graph.node.insert(place, node)

        prepared = prepare(export(change=scale_by_shape))
        _, kinds = types(prepared.model)
        assert [kinds[name] for name in ("float_side", "large", "one")] == [FLOAT] * 3
        assert kinds["scaled"] == HALF

    @pytest.mark.parametrize("precision", ["fp32", "tf32"])
    def test_nothing_is_fp16_without_a_cast(self, precision, export):
        _, kinds = types(prepare(export(), precision=precision).model)
        assert HALF not in kinds.values()

    @pytest.mark.parametrize("form", [{}, {"norm": True}, {"head": "grid", "landmarks": False}])
    def test_model_is_valid_and_half_the_size(self, form, export):
        path = export(**form)
        half, single = prepare(path).model, prepare(path, precision="fp32").model
        onnx.checker.check_model(onnx.load_model_from_string(half), full_check=True)
        assert len(half) < 0.75 * len(single)


class TestWeights:
    @pytest.mark.parametrize("value", [65505.0, -1e6, np.inf, np.nan])
    def test_weight_beyond_the_range_is_an_error(self, value, export):
        path = export(change=set_weight("w4", [value]))
        with pytest.raises(ModelFormatError, match=r"weight 'w4' holds .*65504.*tf32 or fp32") as caught:
            prepare(path)
        assert "\n" not in str(caught.value)

    def test_large_weight_is_accepted_without_a_cast(self, export):
        assert prepare(export(change=set_weight("w4", [1e6])), precision="tf32").precision == "tf32"

    def test_largest_fp16_number_is_accepted(self, export):
        prepare(export(change=set_weight("w4", [65504.0, -65504.0])))

    def test_tiny_weights_are_counted(self, export):
        tiny = [1e-9, -1e-10, 1e-20, 0.0, 3e-5, -1e-6]
        plain, changed = (prepare(export(change=change)) for change in (None, set_weight("w4", tiny)))

        def cast_note(prepared):
            return next(note for note in prepared.notes if note.startswith("cast to FP16"))

        assert "0 of them became 0" in cast_note(plain)
        assert "3 of them became 0" in cast_note(changed)
        assert "denormal" in cast_note(changed)

    def test_weight_used_in_fp16_and_fp32_is_kept_in_both(self, export):
        def share(model):
            norm = next(node for node in model.graph.node if node.op_type == "InstanceNormalization")
            place = list(model.graph.node).index(norm)
            taken = norm.input[0]
            model.graph.initializer.append(numpy_helper.from_array(np.array([[[1.0]]], np.float32), "shared"))
            model.graph.node.insert(place, helper.make_node("Mul", [taken, "shared"], ["mul"]))
            model.graph.node.insert(place + 1, helper.make_node("ReduceMean", ["shared"], ["mean"], axes=[0, 1, 2]))
            model.graph.node.insert(place + 2, helper.make_node("Mul", ["mul", "mean"], ["again"]))
            norm.input[0] = "again"

        _, kinds = types(prepare(export(norm=True, change=share), batch=(1, 1, 1)).model)
        assert kinds["shared"] == FLOAT
        assert kinds["shared_fp16"] == HALF


class TestOtherTypes:
    @pytest.fixture
    def half(self, export, tmp_path):
        """Return a file that is FP16 throughout."""
        path = tmp_path / "half.onnx"
        path.write_bytes(prepare(export(), io="float16").model)
        return path

    def test_fp16_file_keeps_its_types(self, half):
        prepared = prepare(half, sizes=((64, 64), (96, 32)), io="float16")
        assert "it is FP16 already" in prepared.notes
        assert prepared.input.dtype == "float16"

    def test_fp16_file_gets_fp32_io(self, half):
        prepared = prepare(half)
        assert {prepared.input.dtype, *(output.dtype for output in prepared.outputs)} == {"float32"}
        assert "10 casts at the input and outputs, which are float32" in prepared.notes

    @pytest.mark.parametrize("precision", ["fp32", "tf32"])
    def test_fp16_file_refuses_fp32(self, precision, half):
        with pytest.raises(OptionError, match=rf"precision {precision}: this model's weights are FP16 already"):
            prepare(half, precision=precision)

    def test_int8_file_keeps_its_types(self, export, run, blob):
        def quantize(model):
            for name, kind, value in (("scale", np.float32, 0.05), ("zero", np.int8, 0)):
                model.graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
            first = next(node for node in model.graph.node if node.op_type == "Relu")
            place = list(model.graph.node).index(first)
            data = first.input[0]
            model.graph.node.insert(place, helper.make_node("QuantizeLinear", [data, "scale", "zero"], ["q"]))
            model.graph.node.insert(place + 1, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]))
            first.input[0] = "dq"

        path = export(opset=13, change=quantize)
        prepared = prepare(path, sizes=((64, 64), (96, 32)))
        assert any(note.startswith("it is quantized to INT8") for note in prepared.notes)
        one = blob(1, 64, 64)
        found, expected = run(prepared.model, one), run(path, one)
        assert all(np.allclose(found[key], expected[key], atol=1e-5) for key in expected)


class TestRounding:
    def test_each_step_is_rounded(self, export, run, blob):
        path = export()
        twin = with_rounding(prepare(path).model)
        one = blob(1, 64, 64)
        rounded, exact = run(twin, one), run(path, one)
        for key, values in rounded.items():
            assert key[0] == "score" or (values == values.astype(np.float16)).all()
            assert 0 < np.abs(values - exact[key]).max() < 0.02

    @pytest.mark.parametrize("io", ["float32", "float16"])
    def test_io_of_the_rounding_model_is_fp32(self, io, export):
        graph, _ = types(with_rounding(prepare(export(norm=True), io=io).model))
        assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {FLOAT}

    def test_fp32_model_has_no_rounding_model(self, export):
        assert with_rounding(prepare(export(), precision="fp32").model) is None
