"""What is known of one network: its files, their hashes, how good it is, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

WEIGHTS_LICENCE = "non-commercial research only (InsightFace)"
"""InsightFace's terms for all its weights, whatever the licence of the code that runs them."""


class AveragePrecision(NamedTuple):
    """Average precision in per cent on the three WIDER FACE validation sets, at VGA resolution (640×480)."""

    easy: float
    medium: float
    hard: float


@dataclass(frozen=True)
class Export:
    """One ONNX file of a model; the same weights may have been exported several times.

    Attributes
    ----------
    file
        Its usual file name.
    sha256
        SHA-256 of its contents, 64 hexadecimal digits.
    size
        Bytes.
    note
        What sets this export apart from the others.
    """

    file: str
    sha256: str
    size: int
    note: str = ""


@dataclass(frozen=True)
class Archive:
    """A zip file of an InsightFace release that holds an export.

    Attributes
    ----------
    file
        File name, the last part of its address.
    member
        Name of the ONNX file in it, without folders.
    sha256
        SHA-256 of the archive, or ``""`` where none is known; the member is checked in any case.
    size
        Bytes, or 0 where that is not known.
    """

    file: str
    member: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Package:
    """A Python distribution that carries an export. It is only looked into, never imported.

    Attributes
    ----------
    distribution
        Name to install it by.
    version
        The version that is known to carry the file.
    file
        Path of the file in the distribution, with forward slashes.
    """

    distribution: str
    version: str
    file: str

    @property
    def requirement(self) -> str:
        """What to hand to ``pip install``."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Model:
    """A network by name.

    Attributes
    ----------
    name
        For example ``500m_bnkps``.
    published_as
        Its row in the table of pretrained models of InsightFace's ``detection/scrfd``.
    files
        File names under which it is looked for, the first one first.
    exports
        The files that are this model; empty where no SHA-256 is known, so that a file cannot be checked.
    ap
        WIDER FACE average precision as the SCRFD paper (arXiv 2105.04714) and InsightFace give it.
    landmarks
        Whether it finds the five landmarks.
    gflops
        Nominal cost of one pass at VGA resolution, in units of 10⁹ floating point operations.
    params
        Parameters in millions.
    archives
        Release archives that hold it, the smallest first.
    packages
        Distributions that carry it.
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
        """SHA-256 of every known export; empty where a file cannot be checked."""
        return tuple(export.sha256 for export in self.exports)

    @property
    def size(self) -> int | None:
        """Bytes of the first export, or ``None`` where none is known."""
        return self.exports[0].size if self.exports else None

    def export(self, sha256: str) -> Export | None:
        """Return the export with this SHA-256, or ``None``."""
        return next((export for export in self.exports if export.sha256 == sha256), None)
