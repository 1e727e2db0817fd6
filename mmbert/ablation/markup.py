"""Escapes text that users wrote, such as names, for Markdown and LaTeX."""

import re

JOINERS = "\u200c\u200d"  # not printable alone, but parts of Persian words and of emoji
MARKDOWN = {**{mark: f"\\{mark}" for mark in "\\`*_{}[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;"}
LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': '{"}',  # starts a letter in some languages of babel
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # would start an option after the end of a row
    "*": "{*}",  # likewise
}


def one_line(text: str) -> str:
    r"""Return text without line breaks; characters that cannot be shown, such as control characters, become U+FFFD.

    Args:
        text: any text.

    Example:
        >>> one_line("two\nlines")
        'two lines'
    """
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() or letter in JOINERS else "\ufffd" for letter in line)


def escape_markdown(text: str) -> str:
    r"""Return text for a line or a table cell of GitHub's Markdown.

    Args:
        text: any text.

    Example:
        >>> print(escape_markdown("a|b <i> *c*"))
        a\|b &lt;i&gt; \*c\*
    """
    return "".join(MARKDOWN.get(letter, letter) for letter in one_line(text))


def escape_latex(text: str) -> str:
    r"""Return text for a cell of a LaTeX table.

    Letters are not changed: other than Latin ones need lualatex or xelatex and a font that has them.

    Args:
        text: any text.

    Example:
        >>> print(escape_latex("50 % of a_b & c"))
        50 \% of a\_b \& c
    """
    escaped = "".join(LATEX.get(letter, letter) for letter in one_line(text))
    return re.sub("-(?=-)", "-{}", escaped)  # two would become one long dash
