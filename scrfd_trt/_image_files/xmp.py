"""Read and write XMP packets, as far as :mod:`metadata` keeps what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from xml.parsers import expat

from scrfd_trt._image_files.exif import clean

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
}
FIELDS = {
    "title": ("dc:title", "photoshop:Headline"),
    "description": ("dc:description", "tiff:ImageDescription"),
    "author": ("dc:creator", "tiff:Artist"),
    "copyright": ("dc:rights", "tiff:Copyright"),
    "usage_terms": ("xmpRights:UsageTerms",),
    "credit": ("photoshop:Credit",),
    "taken": ("exif:DateTimeOriginal", "photoshop:DateCreated"),
    "digitized": ("xmp:CreateDate", "exif:DateTimeDigitized"),
    "modified": ("xmp:ModifyDate", "tiff:DateTime"),
    "make": ("tiff:Make",),
    "model": ("tiff:Model",),
    "lens_make": ("exifEX:LensMake",),
    "lens": ("exifEX:LensModel", "aux:Lens"),
    "latitude": ("exif:GPSLatitude",),
    "longitude": ("exif:GPSLongitude",),
    "altitude": ("exif:GPSAltitude",),
    "direction": ("exif:GPSImgDirection",),
    "location_time": ("exif:GPSTimeStamp",),
    "place": ("Iptc4xmpCore:Location",),
    "city": ("photoshop:City",),
    "state": ("photoshop:State",),
    "country": ("photoshop:Country",),
    "country_code": ("Iptc4xmpCore:CountryCode",),
}
"""Properties of each field; the first is written, the first that has a value is read."""
LISTS = {
    "dc:title": "Alt",
    "dc:description": "Alt",
    "dc:rights": "Alt",
    "xmpRights:UsageTerms": "Alt",
    "dc:creator": "Seq",
}
"""Properties that are written as a list, by RDF's name of its kind."""
PANORAMA = (
    *("UsePanoramaViewer", "ProjectionType", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
    *("FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
    *("PoseHeadingDegrees", "PosePitchDegrees", "PoseRollDegrees"),
    *("InitialViewHeadingDegrees", "InitialViewPitchDegrees", "InitialViewRollDegrees"),
    *("InitialHorizontalFOVDegrees", "InitialVerticalFOVDegrees", "InitialCameraDolly"),
)
"""GPano's properties of the geometry of a panorama."""
NOT_METADATA = ("xmp:MetadataDate", "tiff:Orientation", "tiff:XResolution", "tiff:YResolution", "tiff:ResolutionUnit",
                "tiff:ImageWidth", "tiff:ImageLength", "exif:PixelXDimension", "exif:PixelYDimension",
                "exif:ColorSpace", "exif:ExifVersion", "exif:GPSAltitudeRef",
                "exif:GPSImgDirectionRef", "exif:GPSVersionID")  # fmt: skip
OTHER_NAMES = {
    "http://ns.adobe.com/xap/1.0/g/img/": "embedded previews",
    "http://ns.google.com/photos/1.0/depthmap/": "depth maps",
    "http://ns.google.com/photos/1.0/camera/": "",  # says where a motion video lies, which has its own name
    "http://ns.google.com/photos/1.0/container/": "",
    "http://ns.google.com/photos/1.0/container/item/": "",
    "http://ns.adobe.com/hdr-gain-map/1.0/": "",
}
MAX_BYTES = 16 << 20
MAX_DEPTH = 100


class _PacketError(Exception):
    pass


class _Reader:
    """Collects the values of the properties of a packet, whether they are attributes, elements or lists."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.namespaces: set[str] = set()
        self._path: list[str] = []
        self._text = ""
        self._is_default = False
        self._prefixes = {uri: prefix for prefix, uri in NAMESPACES.items()}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise _PacketError
        self._path.append(name)
        self._text = ""
        self._is_default = any(key.endswith(" lang") and value == "x-default" for key, value in attributes.items())
        self._note(name)
        for key, value in attributes.items():
            self._note(key)
            if name == f"{RDF} Description" and self._depth() == 1:
                self._add(key, value)

    def data(self, text: str) -> None:
        if len(self._text) < MAX_BYTES:
            self._text += text

    def end(self, _: str) -> None:
        depth = self._depth()
        in_list = depth == 4 and self._path[-2] in (f"{RDF} Alt", f"{RDF} Seq", f"{RDF} Bag")
        if depth == 2 or (in_list and self._path[-1] == f"{RDF} li"):
            self._add(self._path[-1 if depth == 2 else -3], self._text, first=self._is_default)
        self._path.pop()
        self._text = ""

    def _depth(self) -> int:
        """Return the number of elements below ``rdf:RDF``: 1 is a description, 2 a property, 4 an item of its list."""
        return len(self._path) - 1 - self._path.index(f"{RDF} RDF") if f"{RDF} RDF" in self._path else 0

    def _note(self, name: str) -> None:
        uri = name.rpartition(" ")[0]
        if uri:
            self.namespaces.add(uri)

    def _add(self, name: str, value: str, *, first: bool = False) -> None:
        uri, _, local = name.rpartition(" ")
        if uri == RDF or not uri:
            return
        found = self.values.setdefault(f"{self._prefixes.get(uri, uri)}:{local}", [])
        if value.strip():
            found.insert(0 if first else len(found), value)


def _refuse(*_: object) -> None:
    raise _PacketError


def read_xmp(packet: bytes) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Return the fields to keep, the panorama and names of the rest; nothing of a packet with a document type."""
    # Its entities may grow without bounds.
    reader, parser = _Reader(), expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.data, _refuse
    parser.buffer_text = True
    try:
        parser.Parse(packet[:MAX_BYTES].strip(b"\0 \r\n\t"), True)
    except (expat.ExpatError, _PacketError, UnicodeDecodeError):
        return {}, {}, {"further XMP"}
    fields = {name: _field(name, reader.values) for name in FIELDS}
    panorama = {name: _panorama(reader.values.get(f"GPano:{name}", [])) for name in PANORAMA}
    known = {name for names in FIELDS.values() for name in names} | {f"GPano:{name}" for name in PANORAMA}
    others = {OTHER_NAMES.get(uri, "") for uri in reader.namespaces}
    for name in reader.values.keys() - known - set(NOT_METADATA):
        others.add("location" if ":GPS" in name else OTHER_NAMES.get(name.rpartition(":")[0], "further XMP"))
    return _filled(fields), _filled(panorama), others - {""}


def _filled(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _field(name: str, values: Mapping[str, list[str]]) -> str:
    found = next((values[key] for key in FIELDS[name] if values.get(key)), None)
    if found is None:
        return ""
    value = clean("; ".join(found) if name == "author" else found[0])
    if name in ("taken", "digitized", "modified", "location_time"):
        return value if re.fullmatch(r"\d{4}(-\d\d){0,2}(T\d\d:\d\d(:\d\d(\.\d+)?)?([+-]\d\d:\d\d|Z)?)?", value) else ""
    if name in ("latitude", "longitude"):
        return _degrees(value)
    if name in ("altitude", "direction"):
        return _fraction(name, value, values)
    return value


def _degrees(value: str) -> str:
    """Return the decimal degrees of ``48,51.493N`` or ``48,51,29.6N``."""
    parts = re.fullmatch(r"(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])", value)
    if not parts:
        return ""
    degrees = float(parts[1]) + float(parts[2]) / 60 + float(parts[3] or 0) / 3600
    return f"{-degrees if parts[4] in 'SW' else degrees:.8f}" if degrees <= 180 else ""


def _fraction(name: str, value: str, values: Mapping[str, list[str]]) -> str:
    parts = re.fullmatch(r"(\d{1,10})(?:/([1-9]\d{0,9}))?", value)
    if not parts:
        return ""
    number = f"{int(parts[1]) / int(parts[2] or 1):.3f}"
    reference = clean("".join(values.get(f"{FIELDS[name][0]}Ref", [])))
    if name == "altitude":
        return f"-{number}" if reference == "1" else number
    return f"{number} magnetic" if reference == "M" else number


def _panorama(found: list[str]) -> str:
    value = found[0].strip() if found else ""
    return value if re.fullmatch(r"-?\d{1,9}(\.\d{1,12})?|equirectangular|cylindrical|[Tt]rue|[Ff]alse", value) else ""


def write_xmp(fields: Mapping[str, str], panorama: Mapping[str, str]) -> bytes:
    """Return a new packet, in UTF-8; empty if there is nothing to write."""
    properties = [_property(FIELDS[name][0], _xmp_value(name, fields[name])) for name in FIELDS if name in fields]
    if "altitude" in fields:
        properties.append(_property("exif:GPSAltitudeRef", str(int(fields["altitude"].startswith("-")))))
    if "direction" in fields:
        properties.append(_property("exif:GPSImgDirectionRef", "M" if " " in fields["direction"] else "T"))
    properties += [_property(f"GPano:{name}", panorama[name]) for name in PANORAMA if name in panorama]
    if not properties:
        return b""
    used = sorted({prefix for prefix in NAMESPACES for text in properties if text.startswith(f"<{prefix}:")})
    names = "".join(f' xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in used)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""{names}>'
        f'{"".join(properties)}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def _property(name: str, value: str) -> str:
    text, kind = escape(value, quote=False), LISTS.get(name)
    if kind is not None:
        language = ' xml:lang="x-default"' if kind == "Alt" else ""
        text = f"<rdf:{kind}><rdf:li{language}>{text}</rdf:li></rdf:{kind}>"
    return f"<{name}>{text}</{name}>"


def _xmp_value(name: str, value: str) -> str:
    if name in ("latitude", "longitude"):
        degrees = abs(float(value))
        side = ("NS" if name == "latitude" else "EW")[value.startswith("-")]
        return f"{int(degrees)},{degrees % 1 * 60:.6f}{side}"
    if name in ("altitude", "direction"):
        return f"{round(abs(float(value.partition(' ')[0])) * 1000)}/1000"
    return value
