"""Formulas as MathML, which browsers draw by themselves: no script, no network. A command of LaTeX that the converter
of docutils does not know is a warning, and so an error of a strict build.
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


TAG = re.compile(r"\\tag\{([^{}]*)\}")
DIGITS = re.compile(r"\\([dt]?frac)(\d)(\d)")
WORD = re.compile(r"(\\(?:log|ln|exp|det|min|max|sup|inf|sin|cos))(?=\s+[A-Za-z\\])")
ACCENT = re.compile(
    r"(\\(?:hat|bar|tilde|dot|vec|widehat|widetilde|overline)\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|\w))(?=\s*[_^])"
)
FENCE = re.compile(r"(\\(?:left|right|[bB]igg?[lrm])\s*)?(\\\||\||\\(?:[lr]?[Vv]ert|[lr]floor|[lr]ceil)(?![A-Za-z]))")
FENCES = {"|": "|", r"\lvert": "|", r"\rvert": "|", r"\vert": "|"}
FENCES |= {r"\lfloor": "⌊", r"\rfloor": "⌋", r"\lceil": "⌈", r"\rceil": "⌉"}
"""Signs that are drawn as they are; every other one that `FENCE` finds is the double bar."""


def in_known_words(formula: str) -> str:
    r"""Returns a formula as the converter understands it best.

    It knows neither `\frac12` nor `\dots`, leaves no space after `\log`, sets an index of a letter with an accent below
    the letter, and lets the bars of a norm grow without `\left`, or stand apart like a sign between two terms.
    """
    formula = DIGITS.sub(r"\\\1{\2}{\3}", formula).replace(r"\dots", r"\ldots")
    formula = ACCENT.sub(r"{\1{}}", WORD.sub(r"\1\\,", formula))
    return FENCE.sub(lambda found: found[0] if found[1] else rf"\text{{{FENCES.get(found[2], '‖')}}}", formula)


def mathml(formula: str, block: bool, node: nodes.Element) -> str:
    """Returns a formula of LaTeX as MathML, or as it was written, with a warning."""
    try:
        return str(tex2mathml(in_known_words(formula), as_block=block))
    except (MathError, IndexError) as error:
        logger.warning("the formula %r cannot be drawn: %s", formula, error, location=node)
        return f"<code>{html.escape(formula)}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), False, node))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    formula, number = TAG.sub("", node.astext()), TAG.search(node.astext())
    shown = f'<span class="number">({html.escape(number[1])})</span>' if number else ""
    self.body.append(f'<div class="formula"><div>{mathml(formula, True, node)}</div>{shown}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
