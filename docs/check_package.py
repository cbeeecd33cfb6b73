"""Check that the wheel in a folder has all files of the packages, and no other: ``docs/check_package.py FOLDER``."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = "examples/overlay_plugin/", "overlays/plugin_template/"
"""A folder of the repository, and its place in the wheel."""


def main() -> None:
    """Print what differs, and fail if anything does."""
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    command = ["git", "ls-files", "scrfd_trt", "overlays", TEMPLATE[0]]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {name.replace(*TEMPLATE) for name in listed}
    if packed != expected:
        sys.exit(f"{wheel.name}: differs from the repository: {sorted(packed ^ expected)}")


if __name__ == "__main__":
    main()
