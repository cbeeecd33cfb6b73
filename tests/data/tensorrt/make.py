"""Write the names of a TensorRT release, or stubs for a type checker, from its real Python bindings.

    python tests/data/tensorrt/make.py names tensorrt_rtx tests/data/tensorrt/tensorrt_rtx-1.7.json
    python tests/data/tensorrt/make.py stubs tensorrt_bindings build/stubs

The bindings of TensorRT 10 and 11 (``tensorrt-cu13-bindings``, 1 MB each) suffice, without TensorRT's libraries (1 GB):
if these are missing, the C compiler makes empty ones, so that the bindings load. The list of 8.6.0 was made in the same
way from ``tensorrt==8.6.0``, which includes its libraries, with empty ones of cuBLAS and cuDNN on ``LD_LIBRARY_PATH``.
The stubs require mypy.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CLASSES = (
    "Builder", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILayer",
    "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProgressMonitor", "ITensor", "ITimingCache", "Logger",
    "OnnxParser", "ParserError", "Runtime",
)  # fmt: skip
FUNCTIONS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
MISSING = re.compile(r"(libnv\w+)\.so\.(\d+): cannot open shared object file")


def load(name: str) -> Any:
    """Import the bindings; if TensorRT's libraries are missing, restart with empty ones."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = MISSING.search(str(error))
        if missing is None or "STAND_INS" in os.environ:
            raise
    with tempfile.TemporaryDirectory() as folder:
        code = "\n".join(f"void *{function}(void) {{ return 0; }}" for function in FUNCTIONS)
        for library in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
            file = f"{library}.so.{missing[2]}"
            command = ["cc", "-w", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{file}", "-o", f"{folder}/{file}"]
            subprocess.run(command, input=code if library == "libnvinfer" else "\n", text=True, check=True)
        environment = {**os.environ, "LD_LIBRARY_PATH": folder, "STAND_INS": folder}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)


def public(thing: Any) -> list[str]:
    return sorted(name for name in dir(thing) if not name.startswith("_"))


def names(name: str, target: Path) -> None:
    """Write the names of the module, the members of its enumerations, and the attributes of ``CLASSES``."""
    module = load(name)
    kinds = {item: getattr(module, item) for item in public(module)}
    enums = {item: sorted(kind.__members__) for item, kind in kinds.items() if hasattr(kind, "__members__")}
    classes = {item: public(kinds[item]) for item in CLASSES if item in kinds}
    parts = {"version": module.__version__, "module": public(module), "enums": enums, "classes": classes}
    lines = [f'  "version": {json.dumps(parts["version"])}', f'  "module": {json.dumps(parts["module"])}']
    for part in (enums, classes):
        inner = ",\n".join(f"    {json.dumps(item)}: {json.dumps(found)}" for item, found in part.items())
        lines.append(f'  "{"enums" if part is enums else "classes"}": {{\n{inner}\n  }}')
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def stubs(name: str, target: Path) -> None:
    """Write a package ``tensorrt`` of stubs, from the signatures in the bindings' docstrings."""
    load(name)
    own = name.removesuffix("_bindings")
    inner = next(item for item in (f"{own}_bindings.{own}", f"{own}.{own}") if item in sys.modules)
    with tempfile.TemporaryDirectory() as folder:
        stubgen = [sys.executable, "-c", "from mypy.stubgen import main; main()"]
        subprocess.run([*stubgen, "-q", "--inspect-mode", "-m", inner, "-o", folder], check=True)
        text = (Path(folder) / Path(*inner.split("."))).with_suffix(".pyi").read_text(encoding="utf-8")
    # DataType.BOOL is exported as `bool` and would hide the builtin in all signatures.
    lines = [line for line in text.splitlines() if not re.match(r"bool: ", line)]
    # Iterable through __getitem__, which a type checker does not infer.
    lines.insert(lines.index("class Dims:") + 1, "    def __iter__(self) -> typing.Iterator[int]: ...")
    lines.insert(0, "import typing")
    while True:
        try:
            ast.parse("\n".join(lines))
            break
        except SyntaxError as error:  # some signatures are invalid: a default before a parameter without one
            del lines[(error.lineno or 0) - 1]
    package = target / "tensorrt"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.pyi").write_text("# mypy: ignore-errors\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["names", "stubs"])
    parser.add_argument("module")
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    {"names": names, "stubs": stubs}[arguments.what](arguments.module, arguments.target)
