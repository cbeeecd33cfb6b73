"""SCRFD networks by name: what is known of them, where they are, and how to get them.

>>> from scrfd_trt import zoo
>>> zoo.get("2.5g_bnkps").ap.hard
77.13
>>> path = zoo.fetch("500m_bnkps")  # doctest: +SKIP

A network is looked for in the folder ``SCRFD_TRT_HOME`` (the user's cache folder where that is not set), then in an
installed package, and then downloaded from InsightFace's releases, or from the address in ``SCRFD_TRT_MIRROR``. Every
file is checked against its SHA-256 before it is used.

The weights are InsightFace's, for non-commercial research only.
"""

from scrfd_trt.zoo.fetching import fetch
from scrfd_trt.zoo.model import WEIGHTS_LICENCE, Archive, AveragePrecision, Export, Model, Package
from scrfd_trt.zoo.places import HOME_VARIABLE, MIRROR_VARIABLE, home
from scrfd_trt.zoo.progress import ProgressBar
from scrfd_trt.zoo.registry import get, models
from scrfd_trt.zoo.sources import Found, SourceStatus, find, status

__all__ = [
    "HOME_VARIABLE",
    "MIRROR_VARIABLE",
    "WEIGHTS_LICENCE",
    "Archive",
    "AveragePrecision",
    "Export",
    "Found",
    "Model",
    "Package",
    "ProgressBar",
    "SourceStatus",
    "fetch",
    "find",
    "get",
    "home",
    "models",
    "status",
]
