"""HTML pages from templates."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(package: str, name: str, filters: Mapping[str, Any] | None = None) -> Template:
    """Returns a template that lies in a package, as `name`; text is escaped, and a name that is missing raises.

    Args:
        package: dotted, as `__package__` has it.
        name: of the file.
        filters: by name.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(filters or {})
    return environment.from_string(resources.files(package).joinpath(name).read_text("utf-8"))
