"""SCRFD models by name: what is known about them, where they are, and how to get them.

>>> from scrfd_trt import models
>>> models.get("2.5g_bnkps").ap.hard
77.13
>>> path = models.fetch("500m_bnkps")  # doctest: +SKIP

A model is looked for in the folder ``SCRFD_TRT_HOME`` (default: the user's cache folder), then in installed packages.
If it is in neither, it is downloaded from InsightFace's releases, or from the address in ``SCRFD_TRT_MIRROR``. Every
file is checked against its SHA-256 before it is used.

The weights are InsightFace's, for non-commercial research only.
"""

from scrfd_trt.models._fetch import fetch
from scrfd_trt.models._registry import (
    DEFAULT_MODEL,
    WEIGHTS_LICENCE,
    Archive,
    AveragePrecision,
    Export,
    Model,
    Package,
    ProgressBar,
    get,
    list_models,
)
from scrfd_trt.models._store import HOME_VARIABLE, MIRROR_VARIABLE, Found, SourceStatus, find, home, status

__all__ = [
    "DEFAULT_MODEL", "HOME_VARIABLE", "MIRROR_VARIABLE", "WEIGHTS_LICENCE", "Archive", "AveragePrecision", "Export",
    "Found", "Model", "Package", "ProgressBar", "SourceStatus", "fetch", "find", "get", "home", "list_models", "status",
]  # fmt: skip
