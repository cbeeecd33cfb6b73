"""What people look like: made up by a seed, refused where it makes no sense."""

from __future__ import annotations

import pytest

from drawing import BEARDS, CLOTHES, STYLES, Look
from scrfd_trt.errors import OptionError


def test_same_seed_gives_same_person():
    assert Look.random(7) == Look.random(7)
    assert len({Look.random(seed) for seed in range(50)}) == 50


def test_random_people_have_all_attributes():
    people = [Look.random(seed) for seed in range(400)]
    assert {look.style for look in people} == set(STYLES)
    assert {look.beard for look in people} == set(BEARDS)
    assert {look.clothes for look in people} == set(CLOTHES)
    assert {look.glasses for look in people} == {True, False}
    assert len({look.skin for look in people}) >= 6


def test_fixed_attributes_are_kept():
    look = Look.random(3, style="afro", glasses=True, turn=-5.0)
    assert (look.style, look.glasses, look.turn) == ("afro", True, -5.0)
    assert look.skin == Look.random(3).skin


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"style": "mohawk"}, r"no style 'mohawk'; choose one of: short, parted, .*bald"),
        ({"beard": "goatee"}, r"choose one of: none, stubble, full, moustache"),
        ({"clothes": "toga"}, r"choose one of: tee, shirt"),
        ({"smile": 1.5}, r"smile must be between 0 and 1, not 1.5"),
        ({"turn": 60}, r"turn must be between -20 and 20, not 60"),
        ({"age": "old"}, r"age must be between 0 and 1, not 'old'"),
        ({"skin": (300, 0, 0)}, r"skin must be a tuple of red, green and blue"),
        ({"hair": "brown"}, r"hair must be a tuple"),
        ({"detail": -1}, r"seed must be an integer of at least 0, not -1"),
        ({"hat": True}, r"no attribute 'hat'; choose among: skin, hair"),
    ],
)
def test_invalid_attributes_raise_option_error(fixed, message):
    with pytest.raises(OptionError, match=message) as caught:
        Look.random(1, **fixed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "one"])
def test_invalid_seed_raises_option_error(seed):
    with pytest.raises(OptionError, match="seed"):
        Look.random(seed)
