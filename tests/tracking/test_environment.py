"""env.json: versions, hardware, commit and a diff of limited size, with all secrets redacted."""

import json
import subprocess
import sys

import pytest

from mmbert.tracking import environment as module
from mmbert.tracking.environment import dirty_diff, environment
from mmbert.tracking.redaction import redact, redact_variable, redact_words

SECRET = "s3cr3tValue9"
NAMED = [
    f"HF_TOKEN={SECRET} python -m mmbert",
    f"export WANDB_API_KEY='{SECRET}'",
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f"--token={SECRET}",
    f"--set data.password={SECRET}",
    f'+    api_key = "{SECRET}"',
    f'+  {{"client_secret": "{SECRET}", "x": 1}}',
    f"+password: {SECRET}",
    f"+Authorization: Bearer {SECRET}",
    f"git clone https://someone:{SECRET}@example.org/x.git",
    f"MY_KEY={SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
]
KNOWN = [
    "hf_" + "a1B2" * 8,
    "ghp_" + "a1B2" * 9,
    "sk-" + "a1B2" * 8,
    "AKIA" + "A1B2" * 4,
    "xoxb-" + "1234-" * 4,
    "github_pat_" + "a1" * 15,
    "glpat-" + "a1B2" * 5,
    "eyJhbGciOiJI.eyJzdWIiOiIx.abc_def",
]
HARMLESS = [
    "--set fusion.tokens=40000000",
    "train.seed=1234567",
    "data.made.key=identifier",
    "+    tokens = tokenizer(text).tokens_of_all",
    "+    key = sorted(found)",
    "monkey=banana-bread",
    "index 0123456789..abcdef0123 100644",
    "+    for token in present.tensors:",
]


@pytest.mark.parametrize("text", NAMED)
def test_a_secret_is_redacted_by_the_name_before_it(text):
    redacted = redact(text)
    assert SECRET not in redacted
    assert "***" in redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize("secret", KNOWN)
def test_a_secret_is_redacted_by_its_own_form(secret):
    assert redact(f"curl {secret} | sh") == "curl *** | sh"


@pytest.mark.parametrize("text", HARMLESS)
def test_text_without_a_secret_is_unchanged(text):
    assert redact(text) == text


def test_the_word_behind_a_flag_is_redacted():
    assert redact_words(["x", "--hf-token", SECRET, "--password", "--set", f"a.token={SECRET}", "--tokens", "4"]) == [
        "x",
        "--hf-token",
        "***",
        "--password",
        "--set",
        "a.token=***",
        "--tokens",
        "4",
    ]


def test_a_variable_is_redacted_by_its_name_and_by_its_value():
    assert redact_variable("MY_TOKEN", "x") == "***"
    assert redact_variable("ADDRESS", f"https://me:{SECRET}@example.org") == "https://***@example.org"
    assert redact_variable("ACCELERATE_MIXED_PRECISION", "bf16") == "bf16"


def test_the_environment_is_json_with_versions_hardware_and_world():
    facts = json.loads(json.dumps(environment(3)))
    assert facts["processes"] == 3
    assert facts["versions"]["torch"][0].isdigit()
    assert {"python", "platform", "machine", "commit", "command", "diff"} < facts.keys()
    assert facts["hardware"]["cores"] >= 1
    assert facts["hardware"]["memory"] > 0


def test_the_command_is_redacted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mmbert", "train", "r.yaml", "--token", SECRET])
    assert environment(1)["command"] == ["train", "r.yaml", "--token", "***"]


@pytest.fixture
def checkout(tmp_path):
    """A folder of a git repository with one committed file, and a function that changes it."""

    def git(*words):
        names = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "code.py"
    file.write_text("value = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path, file.write_text


def test_the_diff_holds_what_changed_without_secrets(checkout):
    folder, write = checkout
    assert dirty_diff(folder) == ""
    write(f"value = 2\npassword = '{SECRET}'\n")
    lines = dirty_diff(folder).splitlines()
    assert {"-value = 1", "+value = 2", "+password = '***'"} < {*lines}


def test_a_huge_diff_is_truncated_with_a_note(checkout, monkeypatch):
    folder, write = checkout
    monkeypatch.setattr(module, "LARGEST_DIFF", 5000)
    write("a line\n" * 300_000)
    diff = dirty_diff(folder)
    assert len(diff) < 5100
    assert diff.endswith("\n(cut off after 5000 bytes)")


def test_outside_a_checkout_there_is_no_diff(tmp_path, monkeypatch):
    assert dirty_diff(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    assert dirty_diff(tmp_path) == ""
