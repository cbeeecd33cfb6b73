"""Check the spelling of the pages, British: ``python docs/check_spelling.py``. Requires codespell."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import codespell_lib

ROOT = Path(__file__).parents[1]
CODE = re.compile(
    r"^```.*?^```|`[^`\n]*`|<code>.*?</code>|!\[[^\]]*\]|\]\([^)]*\)|<[^>]*>|\{[^}]*\}|https?://\S+|^::: .*",
    re.MULTILINE | re.DOTALL,
)
"""What is no prose."""
TERMS = {"check", "disk", "draft", "normalization", "optimization", "optimizations", "program", "sanitizer", "writable"}
"""Spellings of Britain, too, or names of TensorRT and others."""


def prose(page: Path) -> str:
    """Return the text of a page without code and addresses, with its lines as they are."""
    text = page.read_text(encoding="utf-8")
    return CODE.sub(lambda found: "\n" * found[0].count("\n"), text)


def american() -> dict[str, str]:
    """Return British words by their American spelling."""
    data = Path(codespell_lib.__file__).parent / "data" / "dictionary_en-GB_to_en-US.txt"
    pairs = (line.split("->") for line in data.read_text(encoding="utf-8").splitlines() if "->" in line)
    return {us.strip(" ,"): gb for gb, us in pairs if us.strip(" ,") not in TERMS}


def main() -> None:
    """Print what is misspelled, and fail if there is anything."""
    words, found = american(), []
    pages = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    with tempfile.TemporaryDirectory() as folder:
        for page in pages:
            name = str(page.relative_to(ROOT))
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(prose(page), encoding="utf-8")
            for number, line in enumerate(prose(page).splitlines(), 1):
                foreign = [word for word in re.findall(r"[A-Za-z]+", line) if word.lower() in words]
                found += [f"{name}:{number}: {word} ==> {words[word.lower()]} in British English" for word in foreign]
        command = [sys.executable, "-m", "codespell_lib", "."]
        found += subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.splitlines()
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
