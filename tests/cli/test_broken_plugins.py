"""Plugins that are broken: exit code 2 with the plugin's own traceback, and no talk of a bug in mmbert."""

import sys

import pytest

from encoders import ENCODERS
from mmbert import registry
from mmbert.cli.commands import main
from mmbert.errors import RecipeError

REGISTER = "from encoders import ENCODERS\n"
BROKEN = {  # a plugin -> what the message holds
    "raises": ("def scale():\n    return 1 / 0\nscale()\n", ["ZeroDivisionError", "line 2, in scale", "return 1 / 0"]),
    "syntax": ("class EEG(:\n", ["SyntaxError", "class EEG(:"]),
    "exits": ("import sys\nsys.exit(3)\n", ["SystemExit", "sys.exit(3)"]),
    "imports": ("from math import no_such_name\n", ["ImportError", "no_such_name"]),
    "bytes": ("x = '\\ud800'.encode()\n", ["UnicodeEncodeError"]),
    "missing": ("import no_such_library\n", ["No module named 'no_such_library'"]),
    "no_class": (REGISTER + "ENCODERS.register('eeg', 7)\n", ["expected a class for the encoder 'eeg', found 7"]),
    "function": (REGISTER + "ENCODERS.register('eeg', lambda: 0)\n", ["expected a class for the encoder 'eeg'"]),
    "bad_name": (REGISTER + "class A: ...\nENCODERS.register('my eeg', A)\n", ["expected a name", "'my eeg'"]),
    "no_name": (REGISTER + "class A: ...\nENCODERS.register(None, A)\n", ["expected a name", "None"]),
    "taken": (REGISTER + "class A: ...\nENCODERS.register('graph', A)\n", ["the encoder name 'graph' is taken"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_exits_2_with_its_own_traceback(tmp_path, monkeypatch, capsys, name):
    code, parts = BROKEN[name]
    (tmp_path / f"lab_{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(ENCODERS, "_table", {**ENCODERS._table})
    assert main(["list", "encoders", "--plugin", f"lab_{name}"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"--plugin lab_{name}")
    assert all(part in message for part in parts), message
    assert "bug in mmbert" not in message
    assert "commands.py" not in message
    assert "importlib" not in message


@pytest.mark.parametrize("location", ["lab_gone:EEG", "lab_broken:EEG", "lab_broken:Other", "json:dumps"])
def test_a_broken_entry_point_of_an_installed_package_is_named(tmp_path, monkeypatch, location):
    (tmp_path / "lab_broken.py").write_text("EEG = 1 / 0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(registry, "_installed", lambda group: {"eeg": location})
    with pytest.raises(RecipeError, match="the encoder 'eeg'"):
        ENCODERS.get("eeg")
