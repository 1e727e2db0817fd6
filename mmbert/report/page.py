"""Renders a run or a study as one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mmbert.io.output import output_path
from mmbert.io.ownership import is_marked
from mmbert.report.blocks import LADDER, Limits
from mmbert.report.comparisons import comparisons_section
from mmbert.report.contribution import contribution_section
from mmbert.report.details import cost_section, inputs_section, learning_section, predictions_section
from mmbert.report.figures import ArmDifference
from mmbert.report.formatting import clean, plural, shorten
from mmbert.report.reproducibility import data_section, environment_section, recipe_section
from mmbert.report.results import arms_section, summary_section, tasks_section
from mmbert.report.run_files import read_run
from mmbert.report.subject import Subject, subject_of_run, subject_of_study
from mmbert.tracking.outcome import StudyOutcome
from mmbert.version import __version__

MAX_BYTES = 3_000_000
SECTIONS = (
    summary_section,
    arms_section,
    comparisons_section,
    tasks_section,
    predictions_section,
    inputs_section,
    contribution_section,
    learning_section,
    cost_section,
    data_section,
    environment_section,
    recipe_section,
)


def run_report(folder: Path) -> str:
    """Return the report of one run as HTML; the same folder gives the same text.

    The page is smaller than ``MAX_BYTES``: what does not fit is cut, and the page says so.

    Args:
        folder: of a finished run.

    Raises:
        IntegrityError: if the folder holds no finished run.
    """
    record = read_run(folder)
    return _render(subject_of_run(record), "run", f"A single run, seed {record.seed}")


def write_report(folder: Path, output: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the report of one run, and return its path.

    Args:
        folder: of a finished run.
        output: the page; by default ``report.html`` in the folder, which is replaced if mmbert made the folder.
        overwrite: whether another existing page is replaced.

    Raises:
        IntegrityError: if the folder holds no finished run.
        RecipeError: if the output exists or is no file.
    """
    path, of_the_run = output or folder / "report.html", output is None and is_marked(folder, "run")
    with output_path(path, overwrite=overwrite or of_the_run) as temporary:
        temporary.write_text(run_report(folder), encoding="utf-8")
    return path


def study_report(
    outcome: StudyOutcome, *, differences: Sequence[ArmDifference] = (), sentences: Sequence[str] = ()
) -> str:
    """Return the report of a study as HTML, as far as the study has run.

    Curves, confusions, cost, data and environment come from the run folders that still exist.

    Args:
        outcome: of the study.
        differences: between its arms.
        sentences: about these differences.
    """
    size = f"{plural(len(outcome.arms), 'arm')} over {plural(len(outcome.seeds), 'seed')}"
    subtitle = f"A study of {size}, by {outcome.metric} of {outcome.task}"
    return _render(subject_of_study(outcome, differences, sentences), "study", subtitle)


def _render(subject: Subject, kind: str, subtitle: str) -> str:
    text = ""
    for limits in LADDER:
        sections = [section for make_section in SECTIONS if (section := make_section(subject, limits))]
        values = {"title": subject.name, "kind": kind, "subtitle": subtitle, "version": __version__}
        text = _environment(limits).get_template("report.html.j2").render(sections=sections, **values)
        if len(text.encode()) < MAX_BYTES:
            break
    return text


def _environment(limits: Limits) -> Environment:
    """The environment of the template: it escapes every value that is not markup, and cuts long ones."""

    def fit(value: Any) -> Any:
        return value if isinstance(value, Markup) else shorten(value, limits.letters)

    environment = Environment(
        loader=PackageLoader("mmbert.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=fit,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = lambda text: Markup(escape(clean(text)))
    return environment
