"""Public types: a model, its files and where they come from, and the progress bar of a download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

WEIGHTS_LICENCE = "non-commercial research only (InsightFace)"
"""InsightFace's terms for all its weights, whatever the licence of the code that runs them."""


class AveragePrecision(NamedTuple):
    """Average precision in per cent on the three WIDER FACE validation sets, at VGA resolution (640×480)."""

    easy: float
    medium: float
    hard: float


@dataclass(frozen=True)
class Export:
    """One ONNX file of a model. The same weights may have been exported several times.

    Attributes
    ----------
    file
        Usual file name.
    sha256
        64 hexadecimal digits.
    size
        Bytes.
    note
        Difference from the other exports.
    """

    file: str
    sha256: str
    size: int
    note: str = ""


@dataclass(frozen=True)
class Archive:
    """A zip file of an InsightFace release that contains an export.

    Attributes
    ----------
    file
        File name, the last part of its address.
    member
        Name of the ONNX file in it, without folders.
    sha256
        SHA-256 of the archive; ``""`` if unknown. The member is checked in any case.
    size
        Bytes; 0 if unknown.
    """

    file: str
    member: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Package:
    """A Python distribution that contains an export. It is never imported.

    Attributes
    ----------
    distribution
        Name to install it by.
    version
        A version that contains the file.
    file
        Path of the file in the distribution, with forward slashes.
    """

    distribution: str
    version: str
    file: str

    @property
    def requirement(self) -> str:
        """Argument for ``pip install``."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Model:
    """A model that is known by name.

    Attributes
    ----------
    name
        For example ``500m_bnkps``.
    published_as
        Its row in the table of pretrained models of InsightFace's ``detection/scrfd``.
    files
        File names to look for, in this order.
    exports
        Files that are this model; empty if no SHA-256 is known, so that files cannot be checked.
    ap
        WIDER FACE average precision as the SCRFD paper (arXiv 2105.04714) and InsightFace give it.
    landmarks
        Whether it detects five landmarks per face.
    gflops
        Nominal cost of one pass at VGA resolution, in 10⁹ floating point operations.
    params
        Parameters in millions.
    archives
        Release archives that contain it, the smallest first.
    packages
        Distributions that contain it.
    licence
        Terms of the weights.
    """

    name: str
    published_as: str
    files: tuple[str, ...]
    exports: tuple[Export, ...]
    ap: AveragePrecision
    landmarks: bool
    gflops: float
    params: float
    archives: tuple[Archive, ...] = ()
    packages: tuple[Package, ...] = ()
    licence: str = WEIGHTS_LICENCE

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
