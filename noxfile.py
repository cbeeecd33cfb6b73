"""The project's checks: ``nox`` runs the everyday ones, ``nox --list`` lists all of them."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PARALLEL = ("--numprocesses=auto", "--dist=loadfile")
PYTHONS = nox.project.python_versions(PYPROJECT)


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of one of pyproject's dependency groups."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on the installed package."""
    session.install(".[test]")
    session.run("pytest", *PARALLEL, *session.posargs)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests on the lowest versions that pyproject.toml allows."""
    session.install(".[test]", "--resolution=lowest-direct")
    session.run("pytest", *PARALLEL, *session.posargs)


@nox.session(python="3.12", default=False)
def rtx(session: nox.Session) -> None:
    """Build engines with TensorRT-RTX and kernels with NVRTC, which need no GPU; Linux on x86-64 only."""
    session.install(".[build,cpu]", "pytest", *group("rtx"), *group("nvrtc"))
    required = {"SCRFD_TRT_REQUIRE_RTX": "1", "SCRFD_TRT_REQUIRE_NVRTC": "1"}
    session.run("pytest", "-m", "rtx", "tests/engine", "tests/cuda", env=required)


@nox.session(python="3.12", default=False)
@nox.parametrize("release", ["10.16.1.11", "11.4.0.106"])
def tensorrt_types(session: nox.Session, release: str) -> None:
    """Check the engine package's types against the bindings of TensorRT 10 and 11; Linux with a C compiler only."""
    session.install("-e", ".[build]", *group("types"), f"tensorrt-cu13-bindings=={release}")
    stubs = f"{session.create_tmp()}/stubs"
    session.run("python", "tests/data/tensorrt/make.py", "stubs", "tensorrt_bindings", stubs)
    session.run("mypy", "--allow-untyped-calls", "scrfd_trt/_engine", env={"MYPYPATH": stubs})


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Drive the studio in Chromium, which must be installed, and test its modules in Node."""
    session.install("-e", ".[test]", *group("browser"))
    session.run("pytest", "tests/studio", *session.posargs)


@nox.session(default=False)
def examples(session: nox.Session) -> None:
    """Run all examples, also those that need PyTorch or Jupyter."""
    session.install("-e", ".[test]", *group("examples"))
    session.run("pytest", "tests/test_examples.py", *session.posargs)


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """Run the tests of S3 and Ray Serve, which others skip."""
    session.install("-e", ".[test]", *group("cluster"))
    session.run("pytest", "tests/distributed", "tests/service", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Give changed files, arguments and requests to everything that reads them; -- --minutes 2 is the default."""
    session.install(".[test]")
    session.run("python", "tests/fuzz/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, and the spelling of the pages."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--diff")
    session.run("python", "docs/check_spelling.py")


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist, and from it the wheel; check what a package index would show, and that the wheel is whole."""
    session.install(*group("package"))
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--no-isolation", "--outdir", folder, silent=True)
    session.run("python", "docs/check_package.py", folder)
    session.run("twine", "check", "--strict", *(str(path) for path in Path(folder).iterdir()))


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy."""
    session.install("-e", ".[test]", *group("types"), "nox")
    session.run("mypy")


@nox.session
def layers(session: nox.Session) -> None:
    """Check which modules import which with import-linter."""
    session.install("-e", ".", *group("layers"))
    session.run("lint-imports")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a warning is an error."""
    session.install("-e", ".", *group("docs"))
    # The theme's note on its successor is no warning of these pages.
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
