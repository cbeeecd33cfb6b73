"""Metadata of videos: what is kept on request, under the names that a container stores it by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

QUICKTIME = "com.apple.quicktime."
NAMES = {
    "title": ("title", f"{QUICKTIME}title", f"{QUICKTIME}displayname"),
    "artist": ("artist", "author", f"{QUICKTIME}author", f"{QUICKTIME}artist"),
    "copyright": ("copyright", f"{QUICKTIME}copyright"),
    "credit": ("credit", "credits"),
    "date": ("date", f"{QUICKTIME}creationdate", "date_recorded", "year"),
    "creation_time": ("creation_time",),
    "make": ("make", f"{QUICKTIME}make", "com.android.manufacturer"),
    "model": ("model", f"{QUICKTIME}model", "com.android.model"),
    "lens": ("lens", "lens_model", f"{QUICKTIME}camera.lens_model"),
    "location": ("location", f"{QUICKTIME}location.iso6709", "location-eng", "location-und"),
}
"""Names that FFmpeg reports in lower case, by what they mean; everything else is dropped."""
KEYS = {
    **{name: f"{QUICKTIME}{name}" for name in ("title", "artist", "copyright", "make", "model")},
    "date": f"{QUICKTIME}creationdate",
    "lens": f"{QUICKTIME}camera.lens_model",
    "location": f"{QUICKTIME}location.ISO6709",
}
"""Names of Apple's players and cameras, for MP4 and QuickTime files."""
NEED_KEYS = ("make", "model", "lens", "credit")  # MP4 has no names of its own for these
MACINTOSH = {
    "deu": "ger", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb", "mkd": "mac",
    "hye": "arm", "kat": "geo", "mya": "bur", "eus": "baq", "cym": "wel", "fas": "per", "msa": "may", "bod": "tib",
    "fre": "fra", "rum": "ron", "cze": "ces", "slo": "slk",
}  # fmt: skip
"""Languages as FFmpeg takes them for QuickTime files, which number them, by their other codes of ISO 639-2."""
TECHNICAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "encoded_by", "wm/encoding")
"""Describe the file, and not the recording; not worth a line in a report. MXF numbers everything by suffixes."""
TECHNICAL_SUFFIXES = ("uid", "_umid", "_ul", "_num")
LISTED = 3


def choose(metadata: Mapping[str, str], *, keep: bool, keep_location: bool) -> dict[str, str]:
    """Return the metadata to keep, by the names of :data:`NAMES`."""
    found = {key.lower(): value for key, value in metadata.items()}
    chosen = {}
    for name, keys in NAMES.items():
        value = next((found[key] for key in keys if found.get(key)), None)
        if value is not None and (keep_location if name == "location" else keep):
            chosen[name] = value
    return chosen


def for_container(chosen: Mapping[str, str], container_format: str) -> tuple[dict[str, str], bool]:
    """Return metadata as FFmpeg's muxer takes it, and whether MP4 has to store it by Apple's names."""
    tags = dict(chosen)
    by_key = container_format in ("mp4", "mov") and any(name in chosen for name in NEED_KEYS)
    if by_key:
        tags |= {KEYS[name]: value for name, value in chosen.items() if name in KEYS}
    return tags, by_key


def dropped(source: Mapping[str, str], output: Mapping[str, str]) -> list[str]:
    """Return the names of the source's metadata that an output does not have, those of :data:`NAMES` first."""
    means = {key: name for name, keys in NAMES.items() for key in keys}
    kept = {means.get(key.lower(), key.lower()) for key in output}
    names = {means.get(key.lower(), key.lower()) for key in source}
    lost = (name.removeprefix(QUICKTIME) for name in names if name not in kept)
    personal = (name for name in lost if not name.startswith(TECHNICAL) and not name.endswith(TECHNICAL_SUFFIXES))
    return sorted(personal, key=lambda name: (name not in NAMES, name))


def listed(names: Sequence[str]) -> str:
    """Return names for one line of a report; more than three without a meaning in :data:`NAMES` are counted."""
    known = [name for name in names if name in NAMES]
    others = [name for name in names if name not in NAMES]
    if len(others) > LISTED:
        others = [f"{len(others)} {'other ' if known else ''}fields"]
    return ", ".join(known + others)


def of_stream(metadata: Mapping[str, str], container_format: str, *, keep: bool) -> dict[str, str]:
    """Return the metadata to keep of an audio or subtitle stream: a title may name a person, device or place."""
    tags = {key: metadata[key] for key in (("language", "title") if keep else ("language",)) if key in metadata}
    if container_format == "mov" and "language" in tags:
        tags["language"] = MACINTOSH.get(tags["language"], tags["language"])
    return tags


def untitled(chapters: Iterable[Mapping[str, Any]], *, keep: bool) -> list[dict[str, Any]]:
    """Return chapters; unless ``keep``, numbers replace their titles."""
    return [
        {**one, "metadata": {"title": one["metadata"].get("title", "") if keep else f"Chapter {number}"}}
        for number, one in enumerate(chapters, 1)
    ]


def loses_titles(chapters: Sequence[Mapping[str, Any]], *, keep: bool) -> bool:
    """Return whether :func:`untitled` removes a title."""
    changed = zip(chapters, untitled(chapters, keep=keep), strict=True)
    return any(own["metadata"].get("title", "") not in ("", new["metadata"]["title"]) for own, new in changed)
