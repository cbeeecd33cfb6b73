"""Make the reference of the command line from the commands themselves; mkdocs runs it at each build."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrfd_trt._cli import help_panels
from scrfd_trt._cli.application import COMMANDS, load_command

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

FOLDER = "reference/commands"


def pages() -> dict[str, str]:
    """Return the text of the page of each command, by its path."""
    return {f"{FOLDER}/{name}.md": page(name) for name in COMMANDS}


def page(name: str) -> str:
    """Return the page of a command: what it does, examples, and each option."""
    command = load_command(name)
    text, _, examples = inspect.cleandoc(command.help or "").partition("\n\nFor example:\n")
    lines = [_code(text), *_examples(examples)]
    parameters = sorted(command.params, key=lambda one: help_panels.ORDER.get(one.name, 0))
    for title in ("Arguments", *help_panels.PANELS):
        rows = [_row(one) for one in parameters if help_panels._panel(one) == title]
        if rows:
            lines += ["", f"## {title}", "", "| name | meaning |", "|---|---|", *rows]
    table, variable = f"`[{name}]`", f"`SCRFD_TRT_{name.upper()}_OPTION`"
    lines += ["", f"[Settings](../settings.md): table {table} of the file, variables {variable}."]
    return "\n".join([f"# {name}", "", *lines, ""])


def _examples(text: str) -> Iterator[str]:
    """Yield the examples, which are indented, as blocks of code, and what stands between them as text."""
    for is_code, lines in groupby(text.splitlines(), lambda line: line.startswith("  ")):
        block = [line.strip() for line in lines]
        yield from ("", "```sh", *block, "```", "") if is_code else map(_code, block)


def overview() -> str:
    """Return a table of all commands."""
    rows = [f"| [`{name}`]({name}.md) | {text} |" for name, text in COMMANDS.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def _row(one: Any) -> str:
    """Return a row of a table: the names of an option with its value; what it does, its range and its default."""
    names, value = [one.metavar or one.name.upper()], ""
    if one.param_type_name == "option":
        names, value = sorted([*one.opts, *one.secondary_opts], key=len), one.metavar or ""
    anchor = f'<a id="{max(names, key=len).lstrip("-").lower()}"></a>'
    named = ", ".join(f'<code class="option">{_cell(name)}</code>' for name in names)
    notes = {"Range": help_panels._limits(one), "Default": "required" if one.required else help_panels._default(one)}
    meaning = " ".join(
        [_code(_cell(one.help or "")), *(f"{key}: {_cell(note)}." for key, note in notes.items() if note)]
    )
    return f"| {anchor}{named} {_cell(value)} | {meaning} |"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;")


def _code(text: str) -> str:
    """Mark commands and options as code."""
    return re.sub(r"'(scrfd-trt [^']*)'|(?<![\w`-])(--?[a-z][\w-]*)", lambda found: f"`{found[1] or found[2]}`", text)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - the tests have no mkdocs

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the table of commands, and the README's table of platforms, in their places."""
    if page.file.src_uri == f"{FOLDER}/index.md":
        return markdown.replace("<!-- commands -->", overview())
    if "<!-- platforms -->" in markdown:
        readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
        found = re.search(r"(?m)^\| platform \|.*\n(?:\|.*\n)+", readme)
        assert found is not None
        return markdown.replace("<!-- platforms -->", found[0])
    return markdown
