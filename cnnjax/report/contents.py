"""Folders of runs and experiments to a page's content."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError
from cnnjax.files import read_json, write_json
from cnnjax.report.page import Comparison, Page, Study, Table
from cnnjax.report.records import FINDINGS, SEEDS, RunRecord, experiment_of, find_findings, find_records
from cnnjax.report.series import curves, layers, samples

Family = tuple[str, list[RunRecord]]
"""A label, and the runs that differ in their seeds only."""
LABEL = 50  # characters of what tells a family from others of the same network


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
        families=[{"label": label, "runs": [_seed_of(run) for run in runs]} for label, runs in families],
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


def families_of(records: Sequence[RunRecord]) -> list[Family]:
    """The runs by what they share but for their seeds, each family with a label of its own.

    The label is the network's name, with the other fields that tell families of one network apart.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(json.dumps(record.family, sort_keys=True), []).append(record)
    families = list(groups.values())
    for runs in families:
        runs.sort(key=_seed_of)
    by_model: dict[str, list[list[RunRecord]]] = {}
    for runs in families:
        by_model.setdefault(_model_of(runs[0]), []).append(runs)
    labelled: list[Family] = []
    for model, same in by_model.items():
        fields = _differing([runs[0].family["config"] for runs in same])
        for runs in same:
            said = ", ".join(
                f"{name} {_text(runs[0].config.get(name))}" for name in fields if name != "model"
            )
            if len(said) > LABEL:  # too much differs to be said in a label
                said = runs[0].folder.name
            labelled.append((f"{model}, {said}" if said else model, runs))
    return _unique(labelled)


def _unique(families: list[Family]) -> list[Family]:
    """Families whose data or objects alone differ get a number, too."""
    seen: dict[str, int] = {}
    found = []
    for label, runs in families:
        seen[label] = seen.get(label, 0) + 1
        found.append((label if seen[label] == 1 else f"{label} ({seen[label]})", runs))
    return found


def _study(folder: Path, held: Mapping[str, Any]) -> Study:
    figures = {}
    for caption, name in held["figures"].items():
        path = folder / Path(name).name  # beside it, whatever it says
        if path.exists():
            figures[caption] = read_json(path)
    return Study(held["title"], held["text"], figures, held["tables"])


def _title(runs: Sequence[RunRecord], names: Sequence[str], root: Path) -> str:
    if len(runs) == 1:
        return f"{_model_of(runs[0])} on {runs[0].config.get('data')}"
    return f"{len(runs) or 'No'} runs {'' if runs else 'yet '}in {root.name or root}"


def _overview(families: Sequence[Family], names: Sequence[str]) -> Table:
    shares, losses = ("test_error", "train_error"), ("test_loss", "train_loss")
    rows = []
    for label, runs in families:
        for run in runs:
            final = run.final or _latest(run)
            row = [names[len(rows)], label, str(_seed_of(run)), run.state]
            row += [f"{100 * final[name]:.2f} %" if name in final else "" for name in shares]
            row += [f"{final[name]:.4f}" if name in final else "" for name in losses]
            rows.append([*row, f"{run.seconds:,.0f}", _text(run.config.get("data"))])
    words = [name.replace("_", " ") for name in (*shares, *losses)]
    return ("run", "family", "seed", "state", *words, "seconds", "data"), rows


def _latest(run: RunRecord) -> dict[str, float]:
    """The newest value of each metric."""
    return {name: value for line in run.lines for name, value in line.items()}


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
    differing = _differing([one for _, one in named])
    fields = dict.fromkeys(field for _, one in named for field in one)
    shared = {field: _text(named[0][1].get(field)) for field in fields if field not in differing}
    if not differing:
        return Comparison(shared)
    rows = [[name, *(_text(one.get(field)) for field in differing)] for name, one in named]
    return Comparison(shared, (["run", *differing], rows))


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    fields = dict.fromkeys(field for one in settings for field in one)
    return [field for field in fields if any(one.get(field) != settings[0].get(field) for one in settings)]


def _model_of(run: RunRecord) -> str:
    """The network's name, without its fields or its folder."""
    return str(run.config.get("model")).split(" ", 1)[0].rpartition("/")[2][:40]


def _seed_of(run: RunRecord) -> int:
    return next((run.config[name] for name in SEEDS if run.config.get(name) is not None), 0)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value)) or "-"
    return str(value)
