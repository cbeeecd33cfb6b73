"""The plugin passes the checks of ``overlays.testing``."""

from __future__ import annotations

import pytest
from pixel_sunglasses import Sunglasses

from overlays.testing import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", [{}, {"size": 2.0, "shine": False}])  # the defaults, and other values
def test_sunglasses(check, options):
    check(Sunglasses(**options))
