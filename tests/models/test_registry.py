from __future__ import annotations

import dataclasses
import re

import pytest

from scrfd_trt import models
from scrfd_trt.errors import OptionError

NAMES = [
    *("500m_bnkps", "2.5g_bnkps", "10g_bnkps", "500m_gnkps", "2.5g_gnkps", "10g_gnkps"),
    *("500m", "1g", "2.5g", "10g", "34g"),
]


def test_names():
    assert [model.name for model in models.list_models()] == NAMES


@pytest.mark.parametrize(
    ("name", "row", "ap", "params"),
    [
        ("500m_bnkps", "SCRFD_500M_KPS", (90.97, 88.44, 69.49), 0.57),
        ("2.5g_bnkps", "SCRFD_2.5G_KPS", (93.80, 92.02, 77.13), 0.82),
        ("10g_bnkps", "SCRFD_10G_KPS", (95.40, 94.01, 82.80), 4.23),
        ("500m", "SCRFD_500M", (90.57, 88.12, 68.51), 0.57),
        ("2.5g", "SCRFD_2.5G", (93.78, 92.16, 77.87), 0.67),
        ("10g", "SCRFD_10G", (95.16, 93.87, 83.05), 3.86),
        ("34g", "SCRFD_34G", (96.06, 94.92, 85.29), 9.80),
    ],
)
def test_figures_equal_those_of_insightface(name, row, ap, params):
    model = models.get(name)
    assert (model.published_as, tuple(model.ap), model.params) == (row, ap, params)
    assert (model.ap.easy, model.ap.medium, model.ap.hard) == ap
    assert model.landmarks == name.endswith("_bnkps")


@pytest.mark.parametrize("model", models.list_models(), ids=lambda model: model.name)
def test_entries_are_consistent(model):
    hashes = [item.sha256 for item in (*model.exports, *model.archives)]
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)
    assert len(set(hashes)) == len(hashes)
    assert all(item.size > 0 for item in (*model.exports, *model.archives))
    assert {export.file for export in model.exports} <= set(model.files)
    assert {archive.member for archive in model.archives} <= set(model.files)
    assert [archive.size for archive in model.archives] == sorted(archive.size for archive in model.archives)
    assert model.sha256 == tuple(export.sha256 for export in model.exports)
    assert model.size == (model.exports[0].size if model.exports else None)
    assert "non-commercial" in model.licence


def test_no_file_name_belongs_to_two_models():
    files = [file for model in models.list_models() for file in model.files]
    assert len(set(files)) == len(files)


def test_models_without_a_known_hash_are_not_downloaded():
    unchecked = [model for model in models.list_models() if not model.exports]
    assert [model.name for model in unchecked] == NAMES[3:]
    assert not any(model.archives or model.packages for model in unchecked)


def test_entries_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        models.get("500m").name = "1g"


@pytest.mark.parametrize("size", ["500m", "2.5g", "10g"])
def test_names_of_insightface_packs_are_aliases(size):
    assert models.get(f"det_{size}") is models.get(f"{size}_bnkps")


def test_get_returns_a_model_unchanged(tiny):
    assert models.get(tiny) is tiny


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SCRFD_10G_KPS", "10g_bnkps"),
        ("500M", "500m' or '500m_bnkps"),
        ("2.5g_bnkp", "2.5g_bnkps"),
        ("scrfd-500m-bnkps", "500m_bnkps"),
        ("det_10g.onnx", "10g_bnkps"),
    ],
)
def test_unknown_name_is_rejected_with_a_suggestion(name, meant):
    with pytest.raises(OptionError, match=re.escape(f"did you mean '{meant}'?")) as caught:
        models.get(name)
    assert all(known in str(caught.value) for known in NAMES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "retinaface", None, ["500m"]])
def test_unknown_name_lists_the_choices(name):
    with pytest.raises(OptionError, match=r"the models are: 500m_bnkps, .*, 34g$"):
        models.get(name)


def test_path_is_rejected_with_a_hint_to_from_onnx():
    with pytest.raises(OptionError, match="from_onnx"):
        models.get("/models/mine.onnx")
