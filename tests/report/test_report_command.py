"""`mmbert report`: where the page is written, and the errors if there is none."""

import sys

from report_parts import write_run

from mmbert.cli.commands import main


def test_the_page_is_written_to_the_run_folder_or_the_given_path(tmp_path, capsys):
    run = write_run(tmp_path / "run", full=False)
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert main(["report", str(run), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_bytes() == (run / "report.html").read_bytes()


def test_no_finished_run_is_an_integrity_error(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 6
    assert "must hold a finished run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["report", str(tmp_path / "nowhere")]) == 6


def test_a_missing_library_is_named(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mmbert.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(tmp_path)]) == 2
    assert "pip install 'mmbert[report]'" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_a_resource_error(tmp_path, capsys):
    run = write_run(tmp_path / "run", full=False)
    (tmp_path / "file.txt").write_text("")
    assert main(["report", str(run), "--output", str(tmp_path / "file.txt" / "page.html")]) == 5
