"""Secrets taken out of what is written down or printed: tokens, keys and passwords in commands, diffs and variables."""

import re
from collections.abc import Iterable

GONE = "***"
# `token` but not `tokens` or `tokenizer`, which recipes and code are full of
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
KNOWN = re.compile(  # what is known by its own form, wherever it stands
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|"
    r"xox[a-z]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
    r"|(?<=\bBearer )[\w.~+/=-]{8,}|(?<=\bBasic )[A-Za-z0-9+/=]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
IN_ADDRESS = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")  # user:password@host


def redact(text: str) -> str:
    """The text with ``***`` in place of each secret. It rather takes a harmless value away than leave a secret.

    >>> redact("HF_TOKEN=abcdef123 python -m mmbert train r.yaml --set fusion.tokens=4")
    'HF_TOKEN=*** python -m mmbert train r.yaml --set fusion.tokens=4'
    """
    return ASSIGNED.sub(_assigned, IN_ADDRESS.sub(GONE, KNOWN.sub(GONE, text)))


def _assigned(found: re.Match[str]) -> str:
    if found["colon"]:
        return f"{found['colon']}{GONE}"
    quote = found["quote"] or ""
    return f"{found['name']}{found['sign']}{quote}{GONE}{quote}"


def redact_words(words: Iterable[str]) -> list[str]:
    """The words of a command line, the value behind ``--token`` or ``--password`` included.

    >>> redact_words(["train", "r.yaml", "--token", "abc", "--set", "train.seed=1"])
    ['train', 'r.yaml', '--token', '***', '--set', 'train.seed=1']
    """
    told: list[str] = []
    before = ""
    for word in words:
        told.append(GONE if FLAG.fullmatch(before) and not word.startswith("-") else redact(word))
        before = word
    return told


def redact_variable(name: str, value: str) -> str:
    """The value of a variable of the environment: nothing of it where the name tells of a secret.

    >>> redact_variable("ACCELERATE_HUB_TOKEN", "short"), redact_variable("ACCELERATE_USE_CPU", "1")
    ('***', '1')
    """
    return GONE if re.fullmatch(NAME, name, re.IGNORECASE) else redact(value)
