"""The notebooks run on real solar cells, and show what they tell of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
SHOWN = {
    "first-hour": ("threshold", "anomalous", "defective cells found"),
    "why-this-score": ("map largest at", "% of the map there", "component", "after"),
    "a-papers-row": ("FRE (EfficientNet-B5), published", "tf_efficientnet_lite0", "\\toprule", "image_auroc"),
}
PICTURES = {"first-hour": 1, "why-this-score": 3, "a-papers-row": 0}


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs_and_shows_what_it_tells_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("elpv_dataset", reason="the cells are not installed; pip install 'blemish[demo]'")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))  # files by which a kernel is reached
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # its history
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    assert not any(cell.get("outputs") for cell in book.cells), "kept without outputs"
    client = NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    told = "".join(map(text_of, outputs))
    for words in SHOWN[name]:
        assert words in told
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[name]


def text_of(output: dict[str, Any]) -> str:
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))


def test_every_notebook_is_tested_and_listed() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SHOWN)
    listed = (NOTEBOOKS / "index.md").read_text(encoding="utf-8")
    assert all(f"({name}.ipynb)" in listed for name in SHOWN)
