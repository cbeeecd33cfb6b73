"""All that an overlay promises is checked by ``overlays.testing``."""

from __future__ import annotations

import pytest
from pixel_sunglasses import Sunglasses

from overlays.testing import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", [{}, {"size": 2.0, "shine": False}])
def test_sunglasses(check, options):
    """The glasses pass one check."""
    check(Sunglasses(**options))
