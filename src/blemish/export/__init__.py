"""One graph of a model for another runtime, checked before it is called good."""

from __future__ import annotations

from blemish.export.checking import Agreement
from blemish.export.export import Export, export_model
from blemish.export.formats import FORMATS

__all__ = ["FORMATS", "Agreement", "Export", "export_model"]
