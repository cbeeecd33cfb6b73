"""What people look like: made up by a seed, refused where it makes no sense."""

from __future__ import annotations

import pytest

from drawing import BEARDS, CLOTHES, STYLES, Look
from scrfd_trt.errors import OptionError


def test_a_seed_makes_up_the_same_person_again():
    assert Look.random(7) == Look.random(7)
    assert len({Look.random(seed) for seed in range(50)}) == 50


def test_chance_brings_all_kinds_of_people():
    people = [Look.random(seed) for seed in range(400)]
    assert {look.style for look in people} == set(STYLES)
    assert {look.beard for look in people} == set(BEARDS)
    assert {look.clothes for look in people} == set(CLOTHES)
    assert {look.glasses for look in people} == {True, False}
    assert len({look.skin for look in people}) >= 6


def test_what_is_wanted_is_not_left_to_chance():
    look = Look.random(3, style="afro", glasses=True, turn=-5.0)
    assert (look.style, look.glasses, look.turn) == ("afro", True, -5.0)
    assert look.skin == Look.random(3).skin


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"style": "mohawk"}, r"no style 'mohawk'; choose one of: short, parted, .*bald"),
        ({"beard": "goatee"}, r"choose one of: none, stubble, full, moustache"),
        ({"clothes": "toga"}, r"choose one of: tee, shirt"),
        ({"smile": 1.5}, r"smile must lie between 0 and 1, not 1.5"),
        ({"turn": 60}, r"turn must lie between -20 and 20, not 60"),
        ({"age": "old"}, r"age must lie between 0 and 1, not 'old'"),
        ({"skin": (300, 0, 0)}, r"skin must be a tuple of red, green and blue"),
        ({"hair": "brown"}, r"hair must be a tuple"),
        ({"detail": -1}, r"seed: a whole number from 0 up is wanted, not -1"),
        ({"hat": True}, r"no attribute 'hat'; choose among: skin, hair"),
    ],
)
def test_nonsense_is_refused(wanted, message):
    with pytest.raises(OptionError, match=message) as caught:
        Look.random(1, **wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "one"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(OptionError, match="seed"):
        Look.random(seed)
