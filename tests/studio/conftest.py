"""A folder for the files of a page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scrfd_trt._studio.temporary_files import TemporaryFolder


@pytest.fixture
def folder() -> Iterator[TemporaryFolder]:
    """A temporary folder that is deleted after the test."""
    made = TemporaryFolder()
    yield made
    made.close()
