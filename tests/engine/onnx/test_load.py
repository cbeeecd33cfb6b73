from __future__ import annotations

import os

import numpy as np
import onnx
import pytest

from scrfd_trt import BackendError, ModelFormatError, ModelNotFoundError
from scrfd_trt._engine.onnx.load import external_files, load, read_io
from scrfd_trt._engine.onnx.rewrite import prepare

helper = onnx.helper


def assert_one_line(caught, path):
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


class TestFiles:
    # protobuf before 4 warns, and continues with what it parsed.
    @pytest.mark.filterwarnings("ignore:Unexpected end-group tag:RuntimeWarning")
    @pytest.mark.parametrize("content", [b"", b"some text", b"\x00" * 1000, b"\x08\x07"])
    def test_not_onnx(self, content, tmp_path):
        path = tmp_path / "broken.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"not an ONNX model|not a valid ONNX") as caught:
            prepare(path)
        assert_one_line(caught, path)

    def test_truncated_file(self, export, tmp_path):
        path = tmp_path / "half.onnx"
        whole = export().read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelFormatError, match=r"not an ONNX model|not a valid ONNX") as caught:
            prepare(path)
        assert_one_line(caught, path)

    def test_other_suffix(self, export, tmp_path):
        path = export().rename(tmp_path / "network.json")
        assert prepare(path).sizes == ((64, 64),)


class TestWeightsElsewhere:
    @pytest.fixture
    def path(self, export, tmp_path):
        path = tmp_path / "apart" / "network.onnx"
        path.parent.mkdir()
        onnx.save(onnx.load(export()), path, save_as_external_data=True, location="network.data", size_threshold=0)
        return path

    def test_are_included(self, path, export):
        assert prepare(path).model == prepare(export()).model

    def test_missing_file_is_an_error(self, path):
        (path.parent / "network.data").unlink()
        with pytest.raises(ModelFormatError, match="weights are in other files") as caught:
            prepare(path)
        assert_one_line(caught, path)

    @pytest.mark.parametrize("place", ["../network.data", "/dev/zero", "..", "a/../../network.data", "net\0work"])
    def test_files_outside_of_the_folder_are_not_read(self, path, place):
        (path.parent.parent / "network.data").write_bytes((path.parent / "network.data").read_bytes())
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = place
        path.write_bytes(model.SerializeToString())
        for read in (prepare, external_files):
            with pytest.raises(ModelFormatError, match="is not in its folder") as caught:
                read(path)
            assert_one_line(caught, path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only where there are FIFOs")
    def test_fifo_is_not_waited_for(self, path):
        (path.parent / "network.data").unlink()
        os.mkfifo(path.parent / "network.data")
        with pytest.raises(ModelNotFoundError, match="not a file"):
            prepare(path)


class TestDamagedConstants:
    """Sides that do not fit the data."""

    @pytest.mark.parametrize("sides", [[-1, 3, 3, 3], [2**40, 2**40], [5], [], [0], [-(2**63)]])
    @pytest.mark.parametrize("kind", ["raw", "floats"])
    def test_weight(self, export, sides, kind):
        def change(model):
            tensor = next(each for each in model.graph.initializer if len(each.dims) == 4)
            values = onnx.numpy_helper.to_array(tensor)
            del tensor.dims[:]
            tensor.dims.extend(sides)
            if kind == "floats":
                tensor.ClearField("raw_data")
                tensor.float_data.extend(values.reshape(-1).tolist())

        path = export(change=change)
        with pytest.raises(ModelFormatError) as caught:
            prepare(path)
        assert_one_line(caught, path)

    @pytest.mark.parametrize("sides", [[-1], [2**40], [3], [2, -1]])
    def test_constant_node(self, export, sides):
        def change(model):
            node = next(each for each in model.graph.node if each.op_type == "Constant" and each.attribute[0].t.dims)
            del node.attribute[0].t.dims[:]
            node.attribute[0].t.dims.extend(sides)

        path = export(change=change)
        with pytest.raises(ModelFormatError) as caught:
            prepare(path)
        assert_one_line(caught, path)


class TestOtherNetworks:
    def test_two_inputs(self, export):
        def add(model):
            model.graph.input.append(helper.make_tensor_value_info("more", 1, [1, 3, 64, 64]))

        with pytest.raises(ModelFormatError, match=r"one input .* inputs are: images 1×3×64×64, more") as caught:
            prepare(export(change=add))
        assert "\n" not in str(caught.value)

    def test_integer_input(self, export):
        def change(model):
            model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
            first = model.graph.node[0]
            model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["floats"], to=1))
            first.input[0] = "floats"

        with pytest.raises(ModelFormatError, match="uint8"):
            prepare(export(change=change))

    def test_other_outputs(self, export):
        def drop(model):
            del model.graph.output[3:]

        path = export(change=drop)
        with pytest.raises(ModelFormatError, match="this is not a SCRFD model") as caught:
            prepare(path)
        assert_one_line(caught, path)

    def test_output_that_is_an_input(self, tmp_path):
        same = helper.make_tensor_value_info("images", 1, [1, 3, 64, 64])
        path = tmp_path / "same.onnx"
        opsets = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(helper.make_graph([], "g", [same], [same]), opset_imports=opsets), path)
        with pytest.raises(ModelFormatError, match="not a SCRFD model"):
            prepare(path)

    def test_control_flow(self, export):
        def change(model):
            branch = helper.make_graph(
                [helper.make_node("Identity", ["images"], ["same"])],
                "branch",
                [],
                [helper.make_tensor_value_info("same", 1, [1, 3, 64, 64])],
            )
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
            node = helper.make_node("If", ["always"], ["chosen"], then_branch=branch, else_branch=branch)
            model.graph.node[0].input[0] = "chosen"
            model.graph.node.insert(0, node)

        with pytest.raises(ModelFormatError, match=r"control flow \(If\) is not supported.*onnxsim"):
            prepare(export(change=change))

    def test_custom_operators(self, export):
        def change(model):
            model.graph.node[0].domain = "com.example"
            model.opset_import.append(helper.make_opsetid("com.example", 1))

        with pytest.raises(ModelFormatError, match=r"TensorRT does not support com\.example\."):
            prepare(export(change=change))

    def test_quantized_operators(self, export):
        def change(model):
            model.graph.node.append(helper.make_node("ConvInteger", ["q", "r"], ["s"]))
            for name in "qr":
                values = np.zeros((1, 1, 1, 1), np.uint8)
                model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))

        with pytest.raises(ModelFormatError, match=r"ConvInteger.*INT8 as QuantizeLinear and DequantizeLinear"):
            prepare(export(change=change))


class TestForms:
    def test_weights_listed_as_inputs(self, export, run, blob):
        def old(model):
            model.ir_version = 3
            for tensor in model.graph.initializer:
                value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                model.graph.input.append(value)

        prepared = prepare(export(change=old), sizes=((64, 64), (96, 32)))
        graph = onnx.load_model_from_string(prepared.model).graph
        assert [value.name for value in graph.input] == ["images"]

    def test_functions(self, export, run, blob):
        def wrap(model):
            body = [helper.make_node("Relu", ["x"], ["y"])]
            opsets = [helper.make_opsetid("", 11)]
            model.functions.append(helper.make_function("local", "Act", ["x"], ["y"], body, opsets))
            model.opset_import.append(helper.make_opsetid("local", 1))
            for node in model.graph.node:
                if node.op_type == "Relu":
                    node.op_type, node.domain = "Act", "local"

        path = export(change=wrap)
        assert not load(path).functions
        one = blob(1, 64, 64)
        found, expected = run(prepare(path, precision="fp32").model, one), run(path, one)
        assert all(np.allclose(found[key], expected[key], atol=1e-6) for key in expected)


def test_names_that_are_not_utf_8(export, tmp_path):
    def rename(model):
        model.graph.output[0].name = "QQQQ"

    path = export(change=rename)
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xff\xfe\x80Q"))
    with pytest.raises(ModelFormatError) as caught:
        prepare(path)
    assert_one_line(caught, path)
    for tensor in read_io(path)[1]:
        assert isinstance(tensor.name, str)


@pytest.mark.parametrize("place", ["onnx.load", "onnx.checker.check_model", "onnx.numpy_helper.to_array"])
def test_lack_of_memory_is_not_a_damaged_model(export, monkeypatch, place):
    def fail(*_, **__):
        raise MemoryError

    path = export()
    monkeypatch.setattr(place, fail)
    with pytest.raises(BackendError, match="reading the model failed: there is not enough memory"):
        prepare(path)
