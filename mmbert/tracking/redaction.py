"""Redaction of tokens, keys and passwords in commands, diffs and environment variables."""

import re
from collections.abc import Iterable

GONE = "***"
# `token` but not `tokens` or `tokenizer`, which are frequent in recipes and code
WORD = r"(?:token(?![a-z])|secret|passw(?:or)?d|passphrase|pwd(?![a-z])|credential|(?:api|access|private|auth)[-_]?key)"
SHOUTED = r"(?:[A-Z0-9_]+_)?(?:TOKEN|KEY|PAT|PWD|AUTH)"  # a variable of the environment
NAME = rf"(?:[\w.\-]*{WORD}[\w.\-]*|\b(?-i:{SHOUTED}))"
ASSIGNED = re.compile(
    rf"(?P<name>{NAME}[\"']?)(?P<sign>\s*[:=]\s*)(?:(?P<quote>[\"'])(?P<text>(?:\\.|(?!(?P=quote))[^\n\\])+)(?P=quote)|"
    r"(?<=[:=])(?P<word>[^\s\"'()\[\]{},;]{6,}))|"
    rf"(?P<colon>(?:^|(?<=[\n+\- ])){NAME}:\s+)(?P<rest>[^\s\"'()\[\]{{}},;]{{6,}})(?=\s|$)",
    re.IGNORECASE,
)
FLAG = re.compile(rf"-{{1,2}}{NAME}", re.IGNORECASE)
KNOWN = re.compile(  # secrets of a known form, in any context
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|"
    r"xox[a-z]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
    r"|(?<=\bBearer )[\w.~+/=-]{8,}|(?<=\bBasic )[A-Za-z0-9+/=]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
IN_ADDRESS = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")  # user:password@host


def redact(text: str) -> str:
    """The text with ``***`` in place of each secret; in doubt, a harmless value is redacted too.

    Args:
        text: any.

    Example:
        >>> redact("HF_TOKEN=abcdef123 python -m mmbert train r.yaml --set fusion.tokens=4")
        'HF_TOKEN=*** python -m mmbert train r.yaml --set fusion.tokens=4'
    """
    return ASSIGNED.sub(_redact_assignment, IN_ADDRESS.sub(GONE, KNOWN.sub(GONE, text)))


def _redact_assignment(match: re.Match[str]) -> str:
    if match["colon"]:
        return f"{match['colon']}{GONE}"
    quote = match["quote"] or ""
    return f"{match['name']}{match['sign']}{quote}{GONE}{quote}"


def redact_words(words: Iterable[str]) -> list[str]:
    """The words of a command line, redacted; so is the value after ``--token`` or ``--password``.

    Args:
        words: as in ``sys.argv``.

    Example:
        >>> redact_words(["train", "r.yaml", "--token", "abc", "--set", "train.seed=1"])
        ['train', 'r.yaml', '--token', '***', '--set', 'train.seed=1']
    """
    redacted: list[str] = []
    before = ""
    for word in words:
        redacted.append(GONE if FLAG.fullmatch(before) and not word.startswith("-") else redact(word))
        before = word
    return redacted


def redact_variable(name: str, value: str) -> str:
    """The value of an environment variable, redacted; all of it where the name is that of a secret.

    Args:
        name: of the variable.
        value: its value.

    Example:
        >>> redact_variable("ACCELERATE_HUB_TOKEN", "short"), redact_variable("ACCELERATE_USE_CPU", "1")
        ('***', '1')
    """
    return GONE if re.fullmatch(NAME, name, re.IGNORECASE) else redact(value)
