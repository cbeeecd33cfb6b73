"""Let mkdocstrings show docstrings in Sphinx's markup: its roles, literal blocks, tables and doctests."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|exc|func|meth|mod|obj):`(~?)([\w.]+)`")
LITERAL_MARK = re.compile(r"^::$", re.MULTILINE)
TABLE = re.compile(r"^=+(?: +=+)+\n.*^=+(?: +=+)+$", re.MULTILINE | re.DOTALL)
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
DOCTEST_FLAG = re.compile(r" *# doctest: .*")


class SphinxMarkup(griffe.Extension):
    """Turn roles into links, and literal blocks, tables and doctests into code blocks."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings, once the whole package is known and names can be looked up."""
        _rewrite(pkg)


def _rewrite(thing: griffe.Object) -> None:
    if thing.docstring:
        text = ROLE.sub(partial(_link, thing), thing.docstring.value)
        text = LITERAL_MARK.sub("", text)
        text = TABLE.sub(r"```text\n\g<0>\n```", text)
        text = DOCTEST.sub(lambda found: f"```pycon\n{DOCTEST_FLAG.sub('', found[0])}\n```", text)
        thing.docstring.value = text
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            _rewrite(member)


def _link(scope: griffe.Object, role: re.Match[str]) -> str:
    short, name = role.groups()
    text = (name.rpartition(".")[2] if short else name).replace("_", "&#95;")  # not Markdown's emphasis
    try:
        target = scope.resolve(name)
    except griffe.NameResolutionError:
        target = name
    # Optional: a name without a page is printed without a link.
    return f'<autoref optional identifier="{target}"><code>{text}</code></autoref>'
