"""The stand-in for cuda.core has its names, signatures and errors."""

from __future__ import annotations

import inspect

import pytest

CLASSES = {
    "Device": ("set_current", "create_stream", "create_event", "context", "device_id"),
    "Stream": (
        *("from_handle", "create_graph_builder", "close", "sync", "record", "wait"),
        *("is_closed", "handle", "context", "device"),
    ),
    "Event": ("close", "is_closed", "is_done", "sync", "handle", "__sub__"),
    "EventOptions": ("timing_enabled", "blocking_sync", "ipc_enabled"),
    "Buffer": ("from_handle", "close", "is_closed", "handle", "size", "owner"),
    "ObjectCode": ("from_cubin", "get_kernel"),
    "graph.Graph": ("launch", "close", "is_closed", "handle"),
    "graph.GraphBuilder": ("begin_building", "end_building", "complete", "close"),
    "utils.StridedMemoryView": ("from_any_interface", "from_buffer", "device_id", "ptr", "dtype", "shape", "strides"),
}
USED_ELSEWHERE = ("Program", "ProgramOptions", "utils.FileStreamProgramCache", "utils.make_program_cache_key")


@pytest.fixture
def real():
    core = pytest.importorskip("cuda.core")
    pytest.importorskip("cuda.core.utils")
    return core


@pytest.fixture
def core(gpu):
    from scrfd_trt._cuda import driver

    return driver.core()


def find(root, path):
    for name in path.split("."):
        root = getattr(root, name)
    return root


def parameters(function):
    """Names, kinds and defaults, without what an instance or a class brings along."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name not in {"self", "cls"}]


def public(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("path", "names"), CLASSES.items(), ids=CLASSES)
def test_names_and_signatures_are_equal(core, real, path, names):
    made, genuine = find(core, path), find(real, path)
    listed = {name for name in names if not name.startswith("_")}
    bases = set().union(*(public(kind) for kind in made.__mro__ if kind is not object))
    assert bases <= listed
    for name in names:
        if path in {"EventOptions", "utils.StridedMemoryView"} and not hasattr(genuine, name):
            assert name in genuine.__doc__
            continue
        theirs = getattr(genuine, name)
        if not callable(theirs) or name.startswith("__"):
            continue
        assert parameters(getattr(made, name)) == parameters(theirs), name


@pytest.mark.parametrize("path", USED_ELSEWHERE)
def test_other_functions_exist(real, path):
    assert callable(find(real, path))


@pytest.mark.parametrize("path", ["Stream", "Event", "Buffer", "ObjectCode"])
def test_constructors_raise(core, real, path):
    for module in (core, real):
        with pytest.raises(RuntimeError, match="cannot be instantiated directly"):
            find(module, path)()


def test_closed_streams_are_equal(core, real, gpu):
    for module in (core, real):
        stream = module.Stream.from_handle(0x44)
        assert stream.__cuda_stream__() == (0, 0x44)
        assert int(stream.handle) == 0x44
        stream.close()
        assert stream.is_closed
        assert int(stream.handle) == 0
        with pytest.raises(RuntimeError, match=r"^Stream has been closed$"):
            stream.sync()
        with pytest.raises(RuntimeError, match=r"^Stream has been closed$"):
            stream.__cuda_stream__()


def test_closed_buffers_are_equal(core, real):
    for module in (core, real):
        owner = object()
        buffer = module.Buffer.from_handle(0x1000, 100, owner=owner)
        assert (int(buffer.handle), buffer.size, buffer.owner, buffer.is_closed) == (0x1000, 100, owner, False)
        buffer.close()
        assert (int(buffer.handle), buffer.size, buffer.owner, buffer.is_closed) == (0, 0, None, True)
