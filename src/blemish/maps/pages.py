"""HTML pages from templates."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(package: str, name: str, filters: Mapping[str, Any] | None = None) -> Template:
    """Returns the template `name` of a package; text is escaped, and an undefined variable raises.

    It may include and import the package's other templates.

    Args:
        package: its dotted name.
        name: of the template's file.
        filters: by name.
    """
    import jinja2

    files = resources.files(package)
    loader = jinja2.FunctionLoader(lambda name: files.joinpath(name).read_text("utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(filters or {})
    return environment.get_template(name)
