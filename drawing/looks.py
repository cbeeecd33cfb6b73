"""Appearance of drawn people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from scrfd_trt import OptionError

Color = tuple[float, float, float]
T = TypeVar("T")

STYLES = ("short", "parted", "quiff", "curly", "afro", "bob", "long", "wavy", "bun", "receding", "bald")
"""Hair styles."""

BEARDS = ("none", "stubble", "full", "moustache")
"""Beards and moustaches."""

CLOTHES = ("tee", "shirt", "sweater", "striped", "jacket", "blouse")
"""Clothes of the upper body."""

CHOICES = {"style": STYLES, "beard": BEARDS, "clothes": CLOTHES}

SKINS: tuple[Color, ...] = (
    (243, 208, 188),
    (236, 194, 166),
    (226, 180, 146),
    (208, 160, 122),
    (186, 136, 98),
    (152, 104, 72),
    (130, 86, 60),
    (110, 71, 50),
)
DARK_HAIR: tuple[Color, ...] = ((34, 27, 25), (48, 35, 29), (66, 45, 33))
LIGHT_HAIR: tuple[Color, ...] = ((96, 64, 42), (128, 86, 52), (158, 84, 46), (196, 152, 92), (214, 178, 122))
GREY_HAIR: tuple[Color, ...] = ((150, 148, 146), (196, 194, 190), (112, 110, 110))
DARK_EYES: tuple[Color, ...] = ((74, 46, 28), (56, 36, 26))
LIGHT_EYES: tuple[Color, ...] = ((84, 122, 150), (104, 128, 88), (110, 84, 50), (72, 104, 128))
GARMENTS: tuple[Color, ...] = (
    (176, 62, 56),
    (44, 78, 122),
    (226, 222, 212),
    (60, 108, 88),
    (222, 168, 66),
    (92, 74, 118),
    (66, 70, 78),
    (196, 116, 128),
    (112, 164, 186),
)
TROUSERS: tuple[Color, ...] = ((46, 58, 82), (58, 56, 58), (118, 104, 84), (84, 96, 112))


@dataclass(frozen=True)
class Look:
    """Appearance of a drawn person; ``Look.random(seed)`` generates one.

    Attributes
    ----------
    skin, hair, eyes, garment, trousers
        Colors, RGB, 0 to 255.
    style, beard, clothes
        One of ``STYLES``, ``BEARDS``, ``CLOTHES``.
    fringe
        Whether long hair (bob, long, wavy) covers the forehead too.
    glasses
        Whether the person wears glasses.
    soft
        0 to 1: from heavy brows and a broad jaw to fine brows, full lips and a narrow chin.
    age
        0 to 1: depth of the wrinkles.
    smile
        0 to 1: from a closed mouth to one that shows the teeth.
    turn
        Yaw of the head in degrees, -20 to 20; positive looks to the right of the image.
    detail
        Seed of strands, folds and small irregularities.

    Raises
    ------
    OptionError
        If a choice is unknown or a number out of range.
    """

    skin: Color = SKINS[1]
    hair: Color = DARK_HAIR[1]
    eyes: Color = DARK_EYES[0]
    garment: Color = GARMENTS[1]
    trousers: Color = TROUSERS[0]
    style: str = "short"
    beard: str = "none"
    clothes: str = "tee"
    fringe: bool = False
    glasses: bool = False
    soft: float = 0.5
    age: float = 0.2
    smile: float = 0.5
    turn: float = 0.0
    detail: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(f"Look: no {name} {getattr(self, name)!r}; choose one of: {', '.join(choices)}")
        for name, low, high in (("soft", 0, 1), ("age", 0, 1), ("smile", 0, 1), ("turn", -20, 20)):
            if not _within(getattr(self, name), low, high):
                raise OptionError(f"Look: {name} must be between {low} and {high}, not {getattr(self, name)!r}")
        for name in ("skin", "hair", "eyes", "garment", "trousers"):
            color = getattr(self, name)
            if not (isinstance(color, tuple) and len(color) == 3 and all(_within(part, 0, 255) for part in color)):
                raise OptionError(f"Look: {name} must be a tuple of red, green and blue, 0 to 255, not {color!r}")
        generator(self.detail)

    @classmethod
    def random(cls, seed: int, **fixed: Any) -> Look:
        """Return a random person.

        Parameters
        ----------
        seed
            The same seed gives the same person.
        **fixed
            Attributes that are not random.

        Raises
        ------
        OptionError
            If an attribute is unknown or out of range, or the seed is negative.
        """
        unknown = set(fixed) - {field.name for field in fields(cls)}
        if unknown:
            names = ", ".join(field.name for field in fields(cls))
            raise OptionError(f"Look: no attribute {min(unknown)!r}; choose among: {names}")
        return replace(_random_look(generator(seed)), **{"detail": int(seed), **fixed})


def generator(*seed: int) -> np.random.Generator:
    """Return the random generator of a drawing; only its ``random()`` is used, which is the same in all NumPy versions.

    Raises
    ------
    OptionError
        If a seed is negative or not an integer.
    """
    for number in seed:
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 0:
            raise OptionError(f"seed must be an integer of at least 0, not {number!r}")
    return np.random.Generator(np.random.PCG64(list(seed)))


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and bool(low <= value <= high)


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """Return a random choice."""
    return choices[int(rng.random() * len(choices))]


def _random_look(rng: np.random.Generator) -> Look:
    woman = rng.random() < 0.5
    tone = int(rng.random() * len(SKINS))
    old = rng.random() < 0.2
    hair = pick(rng, GREY_HAIR if old else DARK_HAIR if tone > 3 or rng.random() < 0.4 else LIGHT_HAIR)
    eyes = pick(rng, DARK_EYES if tone > 2 or rng.random() < 0.4 else LIGHT_EYES)
    long_hair = ("bob", "long", "wavy", "bun", *(("afro", "curly") if tone > 4 else ("long", "bob")))
    short_hair = ("short", "parted", "quiff", "curly", *(("bald", "receding") if old else ("short", "parted")))
    beard = "none" if woman else pick(rng, ("none", "none", "stubble", "full", "moustache"))
    return Look(
        skin=SKINS[tone],
        hair=hair,
        eyes=eyes,
        garment=pick(rng, GARMENTS),
        trousers=pick(rng, TROUSERS),
        style=pick(rng, long_hair if woman else short_hair),
        beard=beard,
        clothes=pick(rng, ("tee", "sweater", "striped", "jacket", "blouse" if woman else "shirt")),
        fringe=rng.random() < 0.35,
        glasses=rng.random() < 0.2,
        soft=0.7 + 0.3 * rng.random() if woman else 0.3 * rng.random(),
        age=0.6 + 0.4 * rng.random() if old else 0.3 * rng.random(),
        smile=0.55 + 0.45 * rng.random(),
        turn=(rng.random() * 2.0 - 1.0) * 14.0,
    )
