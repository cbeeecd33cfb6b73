"""Fake TensorRT modules with the names of each release, to build on any machine.

``make.py`` made the lists beside this file from real bindings. A fake module has the names in a list and no others:
access to another one is an AttributeError, as in the real module. The fake classes follow the rules of the release, and
their plan is a JSON of the configuration.
"""

from __future__ import annotations

import enum
import json
import threading
import time
import types
from pathlib import Path
from typing import Any

from scrfd_trt._engine.flavours import Flavour

LISTS = Path(__file__).parent
CREATING = threading.Lock()


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Thing:
    _trt: Any


class ILogger:
    Severity = Severity

    def log(self, severity: Severity, message: str) -> None: ...


class IProgressMonitor: ...


class IHostMemory(bytes): ...


class ITimingCache(Thing):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content

    def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._content += other._content
        return True


class IOptimizationProfile(Thing):
    def set_shape(self, input: str, min: list[int], opt: list[int], max: list[int]) -> None:  # noqa: A002
        if not all(low <= middle <= high for low, middle, high in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for opt is inconsistent with other shapes.")
        self._shapes = [input, min, opt, max]


class ITensor(Thing):
    def __init__(self, name: str, shape: list[int]) -> None:
        self._name, self._shape = name, shape

    name = property(lambda self: self._name)
    shape = property(lambda self: self._shape)


class INetworkDefinition(Thing):
    def __init__(self, flags: set[str]) -> None:
        self._flags = flags
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._fp16 = False

    num_inputs = property(lambda self: len(self._inputs))
    num_layers = property(lambda self: 0)
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]


class ParserError(Thing):
    def __init__(self, place: int, name: str, text: str) -> None:
        self._what = (place, name, text)

    def node(self) -> int:
        return self._what[0]

    def node_name(self) -> str:
        return self._what[1]

    def node_operator(self) -> str:
        return "Conv"

    def desc(self) -> str:
        return self._what[2]


class OnnxParser(Thing):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[Any] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        error: ParserError = self._errors[index]
        return error

    def parse(self, model: bytes) -> bool:
        content = json.loads(model)
        self._errors = [self._trt.ParserError(*error) for error in content["errors"]]
        self._network._inputs = [self._trt.ITensor(*item) for item in content["inputs"].items()]
        self._network._outputs = [self._trt.ITensor(*item) for item in content["outputs"].items()]
        self._network._fp16 = content["fp16"]
        return not self._errors


class IBuilderConfig(Thing):
    def __init__(self) -> None:
        self._flags = {"TF32"}
        self._profiles: list[Any] = []
        self._pools: dict[str, int] = {}
        self._cache: Any = None
        self._capabilities: dict[int, str] = {}

    def set_flag(self, flag: Any) -> None:
        # As in the real one: only the log reports that a flag cannot be set.
        if flag.name != "EXCLUDE_LEAN_RUNTIME" or "VERSION_COMPATIBLE" in self._flags:
            self._flags.add(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self._flags

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pools[pool.name] = size

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile._shapes)
        return len(self._profiles) - 1

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        assert 0 <= index < self.num_compute_capabilities  # type: ignore[attr-defined]
        self._capabilities[index] = capability.name
        return True

    def create_timing_cache(self, data: bytes) -> Any:
        assert not self._trt.rtx, "TensorRT-RTX warns that timing caches do nothing there"
        return None if data.startswith(b"damaged") else self._trt.ITimingCache(bytes(data))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache._content.startswith(b"foreign"):
            return False
        self._cache = self._trt.ITimingCache(cache._content)  # what is combined later may not count
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class Builder(Thing):
    def __init__(self, logger: ILogger) -> None:
        # The real one would wait for the other thread, with the GIL held, and both for good.
        assert CREATING.acquire(blocking=False), "two threads create builders or runtimes at the same time"
        time.sleep(0.001)
        CREATING.release()
        self._logger = logger

    def create_network(self, flags: int = 0) -> Any:
        kinds = self._trt.NetworkDefinitionCreationFlag
        names = {kind.name for kind in kinds if flags >> int(kind) & 1}
        assert flags == sum(1 << int(kinds[name]) for name in names), "a bit that stands for nothing"
        return self._trt.INetworkDefinition(names)

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        problem = self._problem(network, config)
        monitor = vars(config).get("progress_monitor")
        if not problem and monitor is not None and not _report_phases(monitor):
            problem = "BuildCanceled"
        if problem:
            text = f"[network.cpp::validate::3014] Error Code 4: Internal Error ({problem})"
            self._logger.log(Severity.ERROR, text)
            return None
        if config._cache is not None:
            config._cache._content += b"+"
        level = vars(config).get("hardware_compatibility_level")
        configuration = {
            "network": sorted(network._flags),
            "flags": sorted(config._flags),
            "profiles": config._profiles,
            "pools": config._pools,
            "level": vars(config).get("builder_optimization_level"),
            "hardware": None if level is None else level.name,
            "capabilities": [name for _, name in sorted(config._capabilities.items())],
            "monitored": monitor is not None,
            "cached": config._cache is not None,
        }
        return IHostMemory(json.dumps(configuration).encode())

    def _problem(self, network: Any, config: Any) -> str:
        strong = "STRONGLY_TYPED" in network._flags or "FP16" not in self._trt.BuilderFlag.__members__
        if self._trt.__version__.startswith("8.") and "EXPLICIT_BATCH" not in network._flags:
            return "Network must be created with kEXPLICIT_BATCH"
        if not strong and network._fp16 and "FP16" not in config._flags:
            return "fp16 precision has been set for a layer or layer output, but fp16 is not configured in the builder"
        if strong and "FP16" in config._flags:
            return "kFP16 is not allowed with strong typing"
        if -1 in network._inputs[0].shape and not config._profiles:
            return "Network has dynamic inputs, but no optimization profile has been defined."
        return ""


def _report_phases(monitor: Any) -> bool:
    monitor.phase_start("Building engine", None, 4)
    continues = all(monitor.step_complete("Building engine", step) for step in range(4))
    monitor.phase_finish("Building engine")
    return continues


INTERFACES = (ILogger, IProgressMonitor)
KINDS = (
    Builder, IBuilderConfig, INetworkDefinition, IOptimizationProfile, ITensor, ITimingCache, OnnxParser, ParserError,
)  # fmt: skip


class FakeTensorRT(types.ModuleType):
    """A TensorRT module with the names of one release."""

    def __init__(self, release: str) -> None:
        super().__init__(f"fake {release}")
        names = json.loads((LISTS / f"{release}.json").read_text(encoding="utf-8"))
        self.__version__: str = names["version"]
        self.rtx = "rtx" in release
        self.Dims = list
        for name, members in names["enums"].items():
            setattr(self, name, enum.IntEnum(name, {member: index for index, member in enumerate(members)}))
        for interface in INTERFACES:
            if interface.__name__ in names["module"]:
                setattr(self, interface.__name__, interface)
        for kind in KINDS:
            assert kind.__name__ in names["module"]
            setattr(self, kind.__name__, self._restrict(kind, {*names["classes"][kind.__name__]}))

    def _restrict(self, kind: type, names: set[str]) -> type:
        def check(name: str) -> None:
            if not name.startswith("_") and name not in names:
                raise AttributeError(f"{self.__name__}: {kind.__name__} has no attribute {name!r}")

        def get(this: object, name: str) -> Any:
            check(name)
            return object.__getattribute__(this, name)

        def put(this: object, name: str, value: Any) -> None:
            check(name)
            object.__setattr__(this, name, value)

        defaults = dict.fromkeys(names - set(dir(kind)))
        body = {**defaults, "_trt": self, "__getattribute__": get, "__setattr__": put}
        return type(kind.__name__, (kind,), body)

    @property
    def flavour(self) -> Flavour:
        return Flavour("tensorrt_rtx" if self.rtx else "tensorrt", self.__version__, self, can_build=True)
