"""Escaping of names in Markdown and LaTeX."""

import re

import pytest

from mmbert.ablation.markup import escape_latex, escape_markdown, one_line

HOSTILE = r"a|b `c` <script> & 50 % of $x_1$ #1 {y} ~ ^ \input{/etc/passwd} [z] *w* \\ --- 'q' " + '"r"'


def test_a_line_stays_one_line_with_all_its_characters():
    assert one_line(" two\r\nlines\tand\u2028more ") == "two lines and more"
    assert one_line("a\u202eb\x00c\x1b[0m\ud800") == "a\ufffdb\ufffdc\ufffd[0m\ufffd"
    for text in ("שלום", "می\u200cخو", "\U0001f600", "\U0001f469\u200d\U0001f52c", "naïve", "分子"):
        assert one_line(text) == text


def test_markdown_marks_are_escaped():
    text = escape_markdown(HOSTILE + "\n| next | row |")
    bare = re.sub(r"\\[\\`*_{}\[\]|~$#]|&(amp|lt|gt);", "", text)
    assert not set("\\`*_{}[]|~$#<>&\n") & set(bare)
    unescaped = re.sub(r"\\(.)", r"\1", text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert unescaped == HOSTILE + " | next | row |"


def test_text_that_looks_like_an_entity_is_unchanged():
    assert escape_markdown("&lt;") == "&amp;lt;"


def test_latex_commands_are_escaped():
    text = escape_latex(HOSTILE + "\n\\end{tabular}")
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textasciigrave"
    bare = re.sub(commands + r'|textquotesingle)\{\}|\\[&%$#_{}]|\{["\[*]\}|-\{\}', "", text)
    assert not set("\\&%$#_{}~^<>|`'\"[*\n") & set(bare)
    assert "]" in bare
    assert r"\textbackslash{}input\{/etc/passwd\}" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("&%$#_{}", r"\&\%\$\#\_\{\}"),
        ("\\", r"\textbackslash{}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("[2ex]", "{[}2ex]"),  # after the end of a row, it would be an option
        ("*", "{*}"),
        ("a---b", "a-{}-{}-b"),
        ("fusion.type: joint -> concat", r"fusion.type: joint -\textgreater{} concat"),
        ("שלום \U0001f600 é", "שלום \U0001f600 é"),
    ],
)
def test_latex_is_escaped(text, expected):
    assert escape_latex(text) == expected
