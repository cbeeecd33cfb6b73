from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scrfd_trt import zoo
from scrfd_trt.errors import ModelNotFoundError, OptionError
from scrfd_trt.zoo.places import address


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user whose home is ``tmp_path`` and who has set nothing."""
    for name in (zoo.HOME_VARIABLE, zoo.MIRROR_VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/scrfd_trt"),
        ("darwin", "Library/Caches/scrfd_trt"),
        ("win32", "AppData/Local/scrfd_trt/scrfd_trt/Cache"),
    ],
)
def test_cache_folder_of_each_system(user, monkeypatch, platform, folder):
    monkeypatch.setattr(sys, "platform", platform)
    assert zoo.home() == user / folder


@pytest.mark.parametrize(
    ("platform", "variable", "folder"),
    [("linux", "XDG_CACHE_HOME", "scrfd_trt"), ("win32", "LOCALAPPDATA", "scrfd_trt/scrfd_trt/Cache")],
)
def test_cache_folder_set_by_the_user(user, monkeypatch, platform, variable, folder):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(user / "elsewhere"))
    assert zoo.home() == user / "elsewhere" / folder


def test_cache_folder_is_the_one_of_pooch(monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv(zoo.HOME_VARIABLE, raising=False)
    assert zoo.home() == pooch.os_cache("scrfd_trt")


def test_the_variable_comes_first(user, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(zoo.HOME_VARIABLE, str(tmp_path / "networks"))
    assert zoo.home() == tmp_path / "networks"


def test_an_empty_variable_is_none(user, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv(zoo.HOME_VARIABLE, " ")
    assert zoo.home() == user / ".cache" / "scrfd_trt"


def test_the_variable_may_be_relative_or_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(zoo.HOME_VARIABLE, "networks")
    assert zoo.home() == tmp_path / "networks"
    monkeypatch.setenv(zoo.HOME_VARIABLE, "~/networks")
    assert zoo.home() == Path("~/networks").expanduser()


def _nobody():
    raise RuntimeError("Could not determine home directory.")


def test_a_user_without_a_home_folder(user, monkeypatch, tiny):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", _nobody)
    with pytest.raises(ModelNotFoundError, match="set SCRFD_TRT_HOME to a folder"):
        zoo.home()
    assert zoo.find(tiny) is None
    assert [source.state for source in zoo.status(tiny)] == ["absent", "offered"]
    with pytest.raises(ModelNotFoundError, match="into the folder that SCRFD_TRT_HOME names"):
        zoo.fetch(tiny, download=False)


def test_address(user, monkeypatch):
    official = "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip"
    assert address("buffalo_l.zip") == official
    monkeypatch.setenv(zoo.MIRROR_VARIABLE, "http://mirror.example/models/")
    assert address("buffalo_l.zip") == "http://mirror.example/models/buffalo_l.zip"


@pytest.mark.parametrize("mirror", ["mirror.example", "ftp://mirror.example", "file:///etc"])
def test_a_mirror_must_be_an_address(user, monkeypatch, mirror):
    monkeypatch.setenv(zoo.MIRROR_VARIABLE, mirror)
    with pytest.raises(OptionError, match=r"SCRFD_TRT_MIRROR is .* https:// or http://"):
        address("buffalo_l.zip")
