"""The site: a small one is built by the settings of the real one, and is read by a browser; another has every fault."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import blemish
from browser import chromium, watched
from conftest import ROOT

START = """# Parts

- [A paper](docs/papers/one.md): its equations.
- [An entry](entry.md)

See [the sum](src/blemish/sums.py), [all of it](src/blemish), [its law](docs/papers/one.md#the-law),
[it holds](tests/test_sums.py).

![A grey square](square.png)
"""

PAPER = r"""# One

## The law

The norm $\lVert \hat{x}_i \rVert_2$ is in `blemish.sums.Sums.merge`, in `sums.LIMIT`, in
`tests/test_sums.py::test_it`, and not in `sums.absent`.

$$s = \frac12 \sum_{k=1}^{N} x_k \tag{4}$$
"""

ENTRY = """# Entry

```{eval-rst}
.. autoexception:: blemish.errors.SettingError
.. autofunction:: blemish.errors.as_number
```
"""

FAULTY = r"""# Faulty

[nowhere](absent.md), [no such place](#absent), $\absent{x}$

![](square.png) <img src="https://example.com/far.png" alt="far">

```{eval-rst}
.. py:function:: f

   :raises AbsentError: never
```
"""


def build(root: Path) -> subprocess.CompletedProcess[str]:
    """Builds a site of the pages in a folder, below it, as strictly as `make lint` does."""
    (root / "square.png").write_bytes((ROOT / "docs/pictures/fre-ae.png").read_bytes())
    strict = ["-q", "-W", "--keep-going", "-c", ROOT / "docs/generator"]
    pages = ["-D", "root_doc=index", "-D", "include_patterns=**.md"]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, *pages, root, root / "site"],
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pages")
    for name, text in {
        "index.md": START,
        "docs/papers/one.md": PAPER,
        "entry.md": ENTRY,
        "src/blemish/sums.py": "LIMIT = 3\n\n\nclass Sums:\n    def merge(self):\n        return '<b>'\n",
        "src/blemish/errors.py": "class SettingError(Exception):\n    pass\n\n\ndef as_number():\n    pass\n",
        "tests/test_sums.py": "def test_it():\n    pass\n\n\ndef test_it_holds():\n    pass\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    done = build(root)
    assert done.returncode == 0, done.stderr
    return root / "site"


def test_a_formula_is_mathml_with_its_number_and_needs_no_script(site: Path) -> None:
    page = (site / "docs/papers/one.html").read_text()
    assert page.count("<math") == 2
    assert "<mfrac>" in page
    assert page.count("<munder") == 1  # the sum's; the index of a letter with a hat stands beside it
    assert "<mtext>‖</mtext>" in page  # the bars of a norm do not grow
    assert "(4)" in page
    assert "mathjax" not in "".join(re.findall("<script.*", page)).lower()


def test_what_names_code_leads_to_its_line(site: Path) -> None:
    page = (site / "docs/papers/one.html").read_text()
    assert 'href="../../source/src/blemish/sums.py.html#L-5"' in page
    assert 'href="../../source/src/blemish/sums.py.html#L-1"' in page
    assert 'href="../../source/tests/test_sums.py.html#L-1"' in page
    assert page.count("../../source/") == 3
    assert 'href="source/tests/test_sums.py.html#L-5"' in (site / "index.html").read_text()
    source = (site / "source/src/blemish/sums.py.html").read_text()
    assert 'id="L-5"' in source
    assert "&lt;b&gt;" in source
    assert 'href="blemish/sums.py.html"' in (site / "source/src/blemish.html").read_text()


def test_the_reference_links_names_and_errors_and_leads_to_the_source(site: Path) -> None:
    page = (site / "entry.html").read_text()
    assert "Returns a number of any kind" in page
    assert 'href="#blemish.errors.SettingError"' in page
    assert 'href="source/src/blemish/errors.py.html#L-5"' in page


def test_a_browser_reads_and_searches_it_from_files_alone(site: Path) -> None:
    with (
        chromium() as running,
        watched(running, (site / "index.html").as_uri(), (site.as_uri() + "/",)) as page,
    ):
        page.locator(".sidebar-tree a").first.click()
        assert page.locator("math").first.bounding_box()["width"] > 10
        page.goto((site / "search.html").as_uri() + "?q=norm")
        page.locator("#search-results a").click()
        assert page.locator("h1").inner_text().startswith("One")


def test_each_fault_fails_the_build_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text(FAULTY)
    (tmp_path / "lost.md").write_text("# Lost\n")
    done = build(tmp_path)
    assert done.returncode == 1
    for fault in (
        "cross-reference target not found: 'absent.md'",
        "cross-reference target not found: 'absent'",
        "cannot be drawn",
        "index.html: no words for the picture _images/square.png",
        "index.html: loads https://example.com/far.png from another host",
        "AbsentError",
        "lost.md: WARNING: document isn't included in any toctree",
    ):
        assert fault in done.stderr, done.stderr


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    for name in blemish.__all__:
        assert f":: blemish.{name}\n" in text or name == "BlemishError", name


def test_the_badges_say_what_the_project_and_its_ci_say() -> None:
    badges = runpy.run_path(str(ROOT / "docs" / "generator" / "badges.py"))
    picture = (ROOT / "docs" / "pictures" / "badges.svg").read_text(encoding="utf-8")
    assert picture == badges["drawn"](badges["facts"]()), "python docs/generator/badges.py draws them again"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"version {version('blemish')}" in picture
    assert f"![version {version('blemish')}; Python 3.10 or newer; Apache-2.0;" in readme
