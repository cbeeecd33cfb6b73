"""Read PNG files, and put profile and metadata into them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from scrfd_trt._image_files import icc, opencv_codec, pillow_codec
from scrfd_trt._image_files.frames import Extras, ImageFile, Limits, check_header, check_total
from scrfd_trt._image_files.opencv_codec import Stored, decode_still, still_file
from scrfd_trt._image_files.pillow_codec import animation_file
from scrfd_trt.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE = 1 << 24  # decompressed bytes of a colour profile; the largest real ones have 4 million


@dataclass
class PngHeader:
    """What the chunks of a PNG file say."""

    size: tuple[int, int] = (0, 0)
    bits: int = 8
    color_type: int = 0
    frames: int = 0  # frames of an animation, whether or not the still image is one of them
    still_is_frame: bool = False
    places: list[tuple[int, int]] = field(default_factory=list)
    """Start and end of the content of each chunk of pixels of the still image."""
    kinds: set[bytes] = field(default_factory=set)
    chunks: dict[bytes, bytes] = field(default_factory=dict)  # the first chunk of each small kind
    damage: str = ""  # completes "the file is …"; empty for a complete file

    @property
    def has_alpha(self) -> bool:
        """Whether pixels can be transparent."""
        return bool(self.color_type & 4) or b"tRNS" in self.chunks


COLORS = {b"cICP": 4, b"cHRM": 32, b"gAMA": 4, b"sRGB": 1}  # chunks that describe colours, and their lengths
KEPT = (b"IHDR", b"tRNS", b"eXIf", b"iCCP", b"pHYs", b"acTL", *COLORS)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each complete chunk."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 4 : at + 8], at + 8, end - 4
        at = end


def read_header(data: bytes) -> PngHeader:
    """Walk through a PNG file; damage is recorded, and what is behind it is not read."""
    header, view, controls = PngHeader(), memoryview(data), 0
    for kind, start, end in chunks(data):
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            name = kind.decode("latin-1") if kind.isalpha() else "a chunk"
            header.damage = f"damaged between bytes {start - 8:,} and {end + 4:,}: wrong checksum in {name}"
            return header
        header.kinds.add(kind)
        if kind in KEPT and kind not in header.chunks:
            header.chunks[kind] = data[start:end]
        if kind == b"IHDR" and end - start >= 13 and not header.size[0]:
            header.size = struct.unpack_from(">2I", data, start)
            header.bits, header.color_type = data[start + 8], data[start + 9]
        controls += kind == b"fcTL"
        if kind == b"IDAT":
            header.still_is_frame = controls > 0 if not header.places else header.still_is_frame
            header.places.append((start, end))
        if kind == b"IEND":
            header.frames = controls if b"acTL" in header.chunks else 0
            header.damage = _missing_pixels(header)
            return header
    header.damage = f"cut off after {len(data):,} bytes"
    header.frames = controls if b"acTL" in header.chunks else 0
    return header


def _missing_pixels(header: PngHeader) -> str:
    """Return whether a file that has its end cannot have all pixels: deflate saves at most 1031 of 1032 bytes."""
    stored = sum(end - start for start, end in header.places)
    if not header.places:
        return "damaged: it has no pixels"
    return "" if stored * 1032 >= _raw_bytes(header) else f"damaged: {stored:,} bytes cannot hold its pixels"


def _raw_bytes(header: PngHeader) -> int:
    """Return how many bytes the pixels of the still image have at least when they are decompressed."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(header.color_type, 1)
    return header.size[1] * (1 + (header.size[0] * samples * header.bits + 7) // 8)


def has_more_data(data: bytes, header: PngHeader) -> bool:
    """Return whether much more is compressed than the pixels; only what compresses again is decompressed here."""
    stored, view = sum(end - start for start, end in header.places), memoryview(data)
    most = 2 * _raw_bytes(header) + MAX_SURPLUS  # interlaced images have more rows
    if stored * 1032 <= most or not any(map(_is_compressible, _samples(view, header))):
        return False
    decoder, total = zlib.decompressobj(), 0
    try:
        for start, end in header.places:
            rest: bytes | memoryview = view[start:end]
            while len(rest) and not decoder.eof:
                total += len(decoder.decompress(rest, 1 << 20))
                rest = decoder.unconsumed_tail
                if total > most:
                    return True
    except zlib.error:
        pass
    return False


def _samples(view: memoryview, header: PngHeader) -> Iterator[memoryview]:
    """Yield pieces of the compressed pixels."""
    for start, end in header.places[:: max(1, len(header.places) // SAMPLES)]:
        for at in range(start, end, max(SAMPLE_BYTES, (end - start) * len(header.places) // SAMPLES)):
            yield view[at : min(at + SAMPLE_BYTES, end)]


def _is_compressible(piece: memoryview) -> bool:
    return len(piece) > 256 and len(zlib.compress(piece, 1)) < 0.9 * len(piece)


SAMPLES, SAMPLE_BYTES = 16, 2048
MAX_SURPLUS = 150_000_000  # bytes that may be decompressed in vain; this takes about a second


def _mended(data: bytes) -> bytes:
    """Return the file with right checksums, its last chunk as long as what is there, and an end."""
    out, at = [SIGNATURE], len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        out.append(chunk(kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join([*out, chunk(b"IEND", b"")])


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _profile(header: PngHeader) -> bytes | None:
    """Return the colour profile; None if there is none, or it is damaged or too large."""
    _, separator, content = header.chunks.get(b"iCCP", b"").partition(b"\0")
    decoder = zlib.decompressobj()
    try:
        profile = decoder.decompress(content[1:], MAX_PROFILE) if separator else b""
    except zlib.error:
        return None
    return profile if decoder.eof and profile else None


def _colors(header: PngHeader) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks that describe colours, of which the profile takes the place."""
    found = {} if b"iCCP" in header.chunks else dict(header.chunks)
    if max(struct.unpack(f">{len(found.get(b'cHRM', b'')) // 4}I", found.get(b"cHRM", b"")[:32]), default=0) > 100_000:
        del found[b"cHRM"]  # no coordinates of a colour
    return tuple((name, found[name]) for name, size in COLORS.items() if len(found.get(name, b"")) == size)


def _resolution(header: PngHeader) -> tuple[float, float] | None:
    """Return the dots per inch."""
    physical = header.chunks.get(b"pHYs", b"")
    if len(physical) < 9 or physical[8] != 1:
        return None
    x, y = struct.unpack_from(">2I", physical)
    return (x * 0.0254, y * 0.0254) if x and y else None


def _essential(data: bytes, header: PngHeader) -> bytes:
    """Return a complete file without texts and profiles, which can be compressed to a thousandth of their size."""
    if not header.kinds & BULKY:
        return data
    kept = (data[start - 8 : end + 4] for name, start, end in chunks(data) if name not in BULKY)
    return b"".join([SIGNATURE, *kept])


BULKY = {b"zTXt", b"iTXt", b"tEXt", b"iCCP"}


def open_png(data: bytes, limits: Limits) -> ImageFile:
    """Read the chunks of a PNG file."""
    header = read_header(data)
    check_header(header.size, limits, header.damage)
    content = data
    if has_more_data(data, header):
        raise ImageError("the image is damaged (it has more data than pixels): copy or download it again")
    if damage := header.damage:
        content = _mended(data)
        header = read_header(content)
    content = _essential(content, header)
    exif, profile = header.chunks.get(b"eXIf", b""), _profile(header)
    if header.frames > 1:
        check_total([header.size] * header.frames, limits)
        file = animation_file(
            "png", content, header.frames, header.size, exif=exif, profile=profile, first=not header.still_is_frame
        )
        described = replace(file.color, resolution=_resolution(header), png_chunks=_colors(header))
        return replace(file, data=data, damage=[damage] if damage else [], color=described)

    def decode(file: ImageFile) -> Stored:
        grey = icc.space(profile) == "GRAY" and header.color_type == 0 and header.bits <= 8
        if damage or (grey and not header.has_alpha):
            return pillow_codec.decode("png", content, file, profile)
        try:
            return _decode_png(file, content, header)
        except ImageError:
            if not file.keep_damaged:
                raise
            return pillow_codec.decode("png", content, file)

    resolution = _resolution(header)
    file = still_file(
        "png", data, header.size, decode, exif=exif, profile=profile, resolution=resolution, damage=damage
    )
    return replace(file, color=replace(file.color, png_chunks=_colors(header)))


def _decode_png(file: ImageFile, data: bytes, header: PngHeader) -> Stored:
    pixels, alpha = decode_still(file, data, alpha=header.has_alpha, bits=header.bits)
    if header.has_alpha and alpha is None and header.color_type == 0:
        # OpenCV does not read which grey is transparent.
        stored, _ = opencv_codec.decode(data, opencv_codec.UNCHANGED)
        grey = int.from_bytes(header.chunks[b"tRNS"][:2], "big")
        grey = grey * 255 // (2**header.bits - 1) if header.bits < 8 else grey
        alpha = None if stored is None else np.where(stored == grey, 0, 255).astype(np.uint8)
    return pixels, alpha


def frame_seconds(data: bytes) -> Iterator[float]:
    """Yield how long each frame is shown."""
    for name, start, end in chunks(data):
        if name == b"fcTL" and end - start >= 24:
            top, below = struct.unpack_from(">2H", data, start + 20)
            yield top / (below or 100)


def embed_png(data: bytes, extras: Extras) -> bytes:
    """Put chunks before the pixels."""
    return data[:33] + png_extras(extras) + data[33:]


def png_extras(extras: Extras) -> bytes:
    """Return the chunks of a profile, a resolution, EXIF and XMP."""
    contents = [
        *extras.png_chunks,
        (b"iCCP", extras.profile and b"ICC profile\0\0" + zlib.compress(extras.profile)),
        (b"pHYs", extras.pixels_per_metre and extras.pixels_per_metre + b"\1"),
        (b"eXIf", extras.exif),
        (b"iTXt", extras.xmp and b"XML:com.adobe.xmp\0\0\0\0\0" + extras.xmp),
    ]
    return b"".join(chunk(name, content) for name, content in contents if content)
