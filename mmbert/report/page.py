"""The page: a run or a study as one HTML file that needs nothing besides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mmbert.report.blocks import LADDER, Limits
from mmbert.report.contribution import worth
from mmbert.report.details import cost, inputs, learning, mistakes
from mmbert.report.figures import ArmDifference
from mmbert.report.formatting import clean, plural, shorten
from mmbert.report.reproducibility import data, environment, recipe
from mmbert.report.results import arms, comparisons, summary, tasks
from mmbert.report.run_files import read_run
from mmbert.report.subject import Findings, of_run, of_study
from mmbert.tracking.outcome import StudyOutcome
from mmbert.version import __version__

LARGEST = 3_000_000  # bytes
SECTIONS = (summary, arms, comparisons, tasks, mistakes, inputs, worth, learning, cost, data, environment, recipe)


def run_report(run: Path) -> str:
    """The report of one run folder. Raises ``IntegrityError`` where it holds no finished run.

    The same folder gives the same text. It is always below ``LARGEST``: what is too much is cut, and the page says so.
    """
    record = read_run(run)
    return _page(of_run(record), "run", f"A single run, seed {record.seed}")


def study_report(
    outcome: StudyOutcome, *, differences: Sequence[ArmDifference] = (), sentences: Sequence[str] = ()
) -> str:
    """The report of a study as far as it has got.

    ``differences`` are those that were computed over its arms, ``sentences`` say in words what they mean. What run
    folders add (curves, confusions, cost, data, environment) is there for the runs whose folder is.
    """
    size = f"{plural(len(outcome.arms), 'arm')} over {plural(len(outcome.seeds), 'seed')}"
    subtitle = f"A study of {size}, by {outcome.metric} of {outcome.task}"
    return _page(of_study(outcome, differences, sentences), "study", subtitle)


def _page(found: Findings, kind: str, subtitle: str) -> str:
    text = ""
    for limits in LADDER:
        sections = [made for section in SECTIONS if (made := section(found, limits))]
        named = {"title": found.name, "kind": kind, "subtitle": subtitle, "version": __version__}
        text = _environment(limits).get_template("report.html.j2").render(sections=sections, **named)
        if len(text.encode()) < LARGEST:
            break
    return text


def _environment(limits: Limits) -> Environment:
    """Everything that is not ours is escaped, and cut where it is long."""

    def fit(value: Any) -> Any:
        return value if isinstance(value, Markup) else shorten(value, limits.letters)

    made = Environment(
        loader=PackageLoader("mmbert.report", "."), autoescape=True, undefined=StrictUndefined, finalize=fit,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters["whole"] = lambda text: Markup(escape(clean(text)))
    return made
