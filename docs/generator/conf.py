"""Settings of Sphinx for the site. The root of its sources is the checkout, so that a link of a page leads to the same
file here and where the code is hosted. Nothing on the built pages is loaded from another host.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the extensions beside this file
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))  # the docstrings of this checkout

project = "blemish"
author = "the contributors of blemish"
project_copyright = "the contributors of blemish, Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "contents",
    "docstrings",
    "equations",
    "source_pages",
    "checks",
]

root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md", "docs/**"]
exclude_patterns = ["**/.*", ".*", "src", "tests", "deploy", "build", "dist", "site", "demo", "**/node_modules"]

# What Markdown means here is what it means where the code is hosted: anchors of headings, $formulas$.
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_space = False
myst_dmath_allow_digits = False
myst_heading_anchors = 4

# Docstrings: Google's sections, and single backticks for code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
smartquotes = False  # text is meant as it is written
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

nitpicky = True
html_math_renderer = "mathml"

html_theme = "furo"
html_title = "blemish"
html_static_path = ["static", str(Path(str(files("ziamath.fonts"))) / "STIXTwoMath-Regular.ttf")]  # see site.css
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # a browser would have to read all pages that were found, which it may not from files
html_use_index = True
html_domain_indices = False
pygments_style = "tango"
pygments_dark_style = "github-dark"
