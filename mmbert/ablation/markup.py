"""Text that people wrote, such as names, as text of Markdown and of LaTeX, whatever is in it."""

import re

JOINERS = "\u200c\u200d"  # not printable by themselves, but Persian words and emoji are written with them
MARKDOWN = {**{mark: f"\\{mark}" for mark in "\\`*_{}[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;"}
LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': '{"}',  # which some languages of babel take as the beginning of a letter
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # after the end of a row it would begin an option
    "*": "{*}",  # and so would this one
}


def one_line(text: str) -> str:
    """Text without line breaks; characters that cannot be shown, such as one that turns the direction, are U+FFFD.

    >>> one_line("two\\nlines")
    'two lines'
    """
    line = " ".join(text.split())
    return "".join(one if one.isprintable() or one in JOINERS else "\ufffd" for one in line)


def markdown(text: str) -> str:
    """Text for a line, or the cell of a table, of Markdown as GitHub reads it.

    >>> print(markdown("a|b <i> *c*"))
    a\\|b &lt;i&gt; \\*c\\*
    """
    return "".join(MARKDOWN.get(one, one) for one in one_line(text))


def latex(text: str) -> str:
    """Text for the cell of a LaTeX table.

    Letters of all scripts stay as they are: beyond Latin ones they need lualatex or xelatex and a font that has them.

    >>> print(latex("50 % of a_b & c"))
    50 \\% of a\\_b \\& c
    """
    escaped = "".join(LATEX.get(one, one) for one in one_line(text))
    return re.sub("-(?=-)", "-{}", escaped)  # two would become one long one
