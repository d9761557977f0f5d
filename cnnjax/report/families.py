"""Families: runs that differ in their seeds only, and what tells families apart."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnjax.report.records import SEEDS, RunRecord

Family = tuple[str, list[RunRecord]]
"""A label, and the runs that differ in their seeds only."""
LABEL = 70  # characters of what tells a family from others of the same network
NAMED = 5  # of many that are listed


def families_of(records: Sequence[RunRecord]) -> list[Family]:
    """The runs by what they share but for their seeds, each family with a label of its own.

    The label is the network's name, with the other fields that tell families of one network apart.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(json.dumps(record.family, sort_keys=True), []).append(record)
    families = list(groups.values())
    for runs in families:
        runs.sort(key=seed_of)
    by_model: dict[str, list[list[RunRecord]]] = {}
    for runs in families:
        by_model.setdefault(model_of(runs[0]), []).append(runs)
    labelled: list[Family] = []
    for model, same in by_model.items():
        for said, runs in zip(_told_apart([runs[0] for runs in same]), same, strict=True):
            labelled.append((f"{model}, {said}" if said else model, runs))
    return _unique(labelled)


def _told_apart(runs: Sequence[RunRecord]) -> list[str]:
    """What tells each from the others: the fields that differ; if that is long, words without their field."""
    settings = [settings_of(run) for run in runs]
    known = set.intersection(*(set(run.config) for run in runs))  # older versions have fewer fields
    fields = [
        name for name in differing_fields(settings) if name != "model" and name.partition(".")[0] in known
    ]
    for bare in ((), (str,)):
        said = [
            ", ".join(_field(name, own[name], bare) for name in fields if name in own) for own in settings
        ]
        if max(map(len, said)) <= LABEL:
            return said
    return [run.folder.name for run in runs]


def _field(name: str, value: Any, bare: tuple[type, ...]) -> str:
    return text_of(value) if isinstance(value, bare) else f"{name.rpartition('.')[2]} {text_of(value)}"


def _unique(families: list[Family]) -> list[Family]:
    """Families whose data or objects alone differ get a number, too."""
    seen: dict[str, int] = {}
    found = []
    for label, runs in families:
        seen[label] = seen.get(label, 0) + 1
        found.append((label if seen[label] == 1 else f"{label} ({seen[label]})", runs))
    return found


def settings_of(run: RunRecord) -> dict[str, Any]:
    """The configuration without its seeds, flat: `model_options.width` is a field of its own."""
    found = {}
    for name, value in run.family["config"].items():
        is_flat = not isinstance(value, Mapping)
        found |= {name: value} if is_flat else {f"{name}.{key}": one for key, one in value.items()}
    return found


def differing_fields(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that are not the same in all, in order of appearance."""
    fields = dict.fromkeys(field for one in settings for field in one)
    return [field for field in fields if any(one.get(field) != settings[0].get(field) for one in settings)]


def model_of(run: RunRecord) -> str:
    """The network's name, without its fields or its folder."""
    return str(run.config.get("model")).split(" ", 1)[0].rpartition("/")[2][:40]


def seed_of(run: RunRecord) -> int:
    """The seed that counts its runs."""
    return next((run.config[name] for name in SEEDS if run.config.get(name) is not None), 0)


def text_of(value: Any) -> str:
    """A setting in one line."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={text_of(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(map(text_of, value)) or "-"
    return str(value)


def listed(names: Iterable[str]) -> str:
    """Names in one line, the first few of many."""
    first, rest = list(names)[:NAMED], list(names)[NAMED:]
    return "; ".join(first) + (f" and {len(rest):,} more" if rest else "")
