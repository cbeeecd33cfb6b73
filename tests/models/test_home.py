from __future__ import annotations

import importlib
import os
from pathlib import Path

import platformdirs
import pytest

from scrfd_trt import models
from scrfd_trt.errors import ModelNotFoundError, OptionError
from scrfd_trt.models._store import address


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user with home folder ``tmp_path`` and no settings."""
    for name in (models.HOME_VARIABLE, models.MIRROR_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


@pytest.fixture
def on(user, monkeypatch):
    """Let platformdirs answer as on another system; Windows returns the folder of local data."""

    def choose(system, local_data="AppData/Local"):
        module = importlib.import_module(f"platformdirs.{system.lower()}")
        monkeypatch.setattr(platformdirs, "PlatformDirs", getattr(module, system))
        if system == "Windows":
            monkeypatch.setattr(module, "get_win_folder", lambda name: str(user / local_data))

    return choose


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        ("Unix", ".cache/scrfd_trt"),
        ("MacOS", "Library/Caches/scrfd_trt"),
        ("Windows", "AppData/Local/scrfd_trt/scrfd_trt/Cache"),
    ],
)
def test_cache_folder_of_each_system(user, on, system, folder):
    on(system)
    assert models.home() == user / folder


@pytest.mark.parametrize(("system", "folder"), [("Unix", "scrfd_trt"), ("Windows", "scrfd_trt/scrfd_trt/Cache")])
def test_cache_folder_set_by_the_user(user, on, monkeypatch, system, folder):
    on(system, "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(user / "elsewhere"))
    assert models.home() == user / "elsewhere" / folder


def test_cache_folder_is_the_one_of_pooch(monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv(models.HOME_VARIABLE, raising=False)
    assert models.home() == pooch.os_cache("scrfd_trt")


def test_environment_variable_comes_first(user, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(models.HOME_VARIABLE, str(tmp_path / "networks"))
    assert models.home() == tmp_path / "networks"


def test_empty_variable_counts_as_not_set(user, on, monkeypatch):
    on("Unix")
    monkeypatch.setenv(models.HOME_VARIABLE, " ")
    assert models.home() == user / ".cache" / "scrfd_trt"


def test_variable_may_be_relative_or_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(models.HOME_VARIABLE, "networks")
    assert models.home() == tmp_path / "networks"
    monkeypatch.setenv(models.HOME_VARIABLE, "~/networks")
    assert models.home() == Path("~/networks").expanduser()


def _nobody(number):
    raise KeyError(number)


@pytest.mark.skipif(os.name == "nt", reason="home folders of POSIX")
def test_user_without_a_home_folder(user, on, monkeypatch, tiny):
    on("Unix")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", _nobody)
    with pytest.raises(ModelNotFoundError, match="set SCRFD_TRT_HOME to a folder"):
        models.home()
    assert models.find(tiny) is None
    assert [source.state for source in models.status(tiny)] == ["absent", "offered"]
    with pytest.raises(ModelNotFoundError, match="copy it to the folder that SCRFD_TRT_HOME names"):
        models.fetch(tiny, download=False)


def test_address(user, monkeypatch):
    official = "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip"
    assert address("buffalo_l.zip") == official
    monkeypatch.setenv(models.MIRROR_VARIABLE, "http://mirror.example/models/")
    assert address("buffalo_l.zip") == "http://mirror.example/models/buffalo_l.zip"


@pytest.mark.parametrize("mirror", ["mirror.example", "ftp://mirror.example", "file:///etc"])
def test_mirror_must_be_an_address(user, monkeypatch, mirror):
    monkeypatch.setenv(models.MIRROR_VARIABLE, mirror)
    with pytest.raises(OptionError, match=r"SCRFD_TRT_MIRROR is .* https:// or http://"):
        address("buffalo_l.zip")
