"""Folders of runs and experiments to a page's content."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError
from cnnjax.files import read_json, write_json
from cnnjax.report.compared_table import content
from cnnjax.report.families import Family, differing_fields, families_of, model_of, seed_of, text_of
from cnnjax.report.over_seeds import compare_families
from cnnjax.report.page import Comparison, Page, Study, Table
from cnnjax.report.records import FINDINGS, RunRecord, experiment_of, find_findings, find_records
from cnnjax.report.series import curves, layers, samples


def report_of(folders: Sequence[Path]) -> Page:
    """The page of what is in the folders now; raises UserError as `page_of`, or if there is nothing."""
    page = page_of(folders)
    if not page.families and not page.studies:
        where = ", ".join(map(str, folders))
        raise UserError(f"there is no run in {where}: give the folder of a run, or one that holds runs")
    return page


def page_of(folders: Sequence[Path]) -> Page:
    """What is in the folders: the findings of experiments, and all runs there or below; none is no error.

    Raises:
        UserError: there is no such folder.
    """
    records = find_records(folders)
    findings = find_findings(folders)
    root = common_folder(folders).resolve()
    families = families_of(records)
    ordered = [run for _, runs in families for run in runs]
    names = [os.path.relpath(run.folder, root) if run.folder != root else root.name for run in ordered]
    first = {label: runs[0] for label, runs in families}
    places = [run.held for run in ordered] + [experiment_of(folder) for folder in findings]
    studies = [_study(folder, held) for folder, held in findings.items()]
    return Page(
        title=studies[0].title if studies else _title(ordered, names, root),
        studies=studies,
        overview=_overview(families, names),
        compared=_over_seeds(families),
        families=[{"label": label, "runs": [seed_of(run) for run in runs]} for label, runs in families],
        curves=curves([runs for _, runs in families]),
        layers=layers(first),
        samples=samples(first),
        configurations=_configurations(names, ordered, list(findings)),
        environments=_compared(_named(names, findings), [_environment(held) for held in places]),
        commands=_commands(places),
    )


def write_findings(folder: Path, study: Study, figures: Mapping[str, Path]) -> None:
    """Keep what an experiment has found, for `report_of`; `figures` are plotly's, by caption."""
    held = {
        "title": study.title,
        "text": study.text,
        "figures": {caption: path.name for caption, path in figures.items()},
        "tables": study.tables,
    }
    write_json(folder / FINDINGS, held)


def common_folder(folders: Sequence[Path]) -> Path:
    """The folder itself, or the deepest one that holds all of several."""
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.absolute() for folder in folders]))


def _study(folder: Path, held: Mapping[str, Any]) -> Study:
    figures = {}
    for caption, name in held["figures"].items():
        path = folder / Path(name).name  # beside it, whatever it says
        if path.exists():
            figures[caption] = read_json(path)
    return Study(held["title"], held["text"], figures, held["tables"])


def _title(runs: Sequence[RunRecord], names: Sequence[str], root: Path) -> str:
    if len(runs) == 1:
        return f"{model_of(runs[0])} on {runs[0].config.get('data')}"
    return f"{len(runs) or 'No'} runs {'' if runs else 'yet '}in {root.name or root}"


def _overview(families: Sequence[Family], names: Sequence[str]) -> Table:
    shares, losses = ("test_error", "train_error"), ("test_loss", "train_loss")
    rows = []
    for label, runs in families:
        for run in runs:
            final = run.last
            row = [names[len(rows)], label, str(seed_of(run)), run.state]
            row += [f"{100 * final[name]:.2f} %" if name in final else "" for name in shares]
            row += [f"{final[name]:.4f}" if name in final else "" for name in losses]
            rows.append([*row, f"{run.seconds:,.0f}", text_of(run.config.get("data"))])
    words = [name.replace("_", " ") for name in (*shares, *losses)]
    return ("run", "family", "seed", "state", *words, "seconds", "data"), rows


def _over_seeds(families: Sequence[Family]) -> dict[str, Any]:
    if sum(any(run.final is not None for run in runs) for _, runs in families) < 2:
        return {}
    try:
        return content(compare_families(families))
    except UserError as error:
        return {"header": [], "rows": [], "notes": [f"{error}."], "intervals": []}


def _configurations(names: Sequence[str], runs: Sequence[RunRecord], studies: Sequence[Path]) -> Comparison:
    if not runs:
        settings = [experiment_of(folder).get("experiment", {}) for folder in studies]
        return _compared([folder.name for folder in studies], settings)
    return _compared(names, [run.config for run in runs])


def _environment(held: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and flags flat; without the command, which has its own place."""
    found = dict(held.get("environment") or {})
    found.pop("command", None)
    versions, flags = found.pop("versions", None) or {}, found.pop("flags", None) or {}
    return {**found, **versions, **flags}


def _commands(places: Sequence[Mapping[str, Any]]) -> list[str]:
    said = [(held.get("environment") or {}).get("command") for held in places]
    return list(dict.fromkeys(filter(None, said)))


def _named(names: Sequence[str], findings: Mapping[Path, Any]) -> list[str]:
    return [*names, *(folder.name for folder in findings)]


def _compared(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> Comparison:
    """What is the same in all, and a row for each of what differs; rows that are the same are one."""
    named = [(name, one) for name, one in zip(names, settings, strict=True) if one]
    differing = differing_fields([one for _, one in named])
    fields = dict.fromkeys(field for _, one in named for field in one)
    shared = {field: text_of(named[0][1].get(field)) for field in fields if field not in differing}
    if not differing:
        return Comparison(shared)
    rows = [[name, *(text_of(one.get(field)) for field in differing)] for name, one in named]
    return Comparison(shared, (["run", *differing], rows))
