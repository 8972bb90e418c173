"""Docstrings as this project writes them: plain text with single backticks, in Google's sections.

A name in backticks leads to its entry in the reference where there is one, and is plain code where there is none. An
error that is said to be raised must have an entry.
"""

from __future__ import annotations

import builtins
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

CODE = re.compile(r"(``.+?``|`[^`]+`)")
MEANT = re.compile(r"([*|\\]|_(?!\w))")
"""Signs that reStructuredText gives a meaning of its own."""


def as_written(text: str) -> str:
    """Returns a line of a docstring in reStructuredText that reads as it was written."""
    parts = CODE.split(text)
    return "".join(part if index % 2 else MEANT.sub(r"\\\1", part) for index, part in enumerate(parts))


def take_as_written(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = [as_written(line) for line in lines]


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Node | None:
    """Returns a link to the one entry whose last name is the one that is looked for, or the name as plain text."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains["py"]
    name = node["reftarget"].rpartition(".")[2]
    entries = {entry for entry in domain.objects if entry.rpartition(".")[2] == name and name[:1].isupper()}
    if len(entries) == 1:
        (entry,) = entries
        found = domain.objects[entry]
        return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, [text], entry)
    if node["reftype"] == "exc" and not hasattr(builtins, name):
        return None  # Sphinx then warns
    return text


def call_attributes_so(app: Sphinx, doctree: nodes.document) -> None:
    """Names the attributes of a class so; Sphinx has them for parameters."""
    for entry in doctree.findall(desc):
        if entry["objtype"] == "class":
            for name in entry[-1].findall(nodes.field_name):
                if name.astext() == "Parameters" and name.parent.parent.parent is entry[-1]:
                    name[:] = [nodes.Text("Attributes")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", take_as_written, priority=400)  # before napoleon's, at 500
    app.connect("doctree-read", call_attributes_so)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
