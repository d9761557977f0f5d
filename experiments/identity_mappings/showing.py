"""Tables and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.report.mappings import Errors, Product, errors, products
from cnnjax.report.page import Table

from ..runner import Findings, percent
from .carrying import KINDS
from .measurement import STATES
from .settings import Preset, variants
from .variants import DEPTHS, ORDERS, ORIGINAL, Variant

DIRECTIONS = {"forward": "signal, from the first block on", "backward": "gradient, from the last block back"}
FAILS = 20.0
"""Percent: what the paper calls a failure on CIFAR-10."""
Row = Mapping[str, Any]


def figures(chosen: Preset, found: Findings, out: Path) -> dict[str, Any]:
    """Errors beside the published ones, and what the shortcuts carry, by caption."""
    known, names = variants(chosen), [net.name for net in chosen.nets]
    orders = [name for name in names if name in known and _is_order(known[name][1])]
    others = [name for name in names if name not in orders or name == ORIGINAL.name]
    tables = {"Other shortcuts (table 1)": others, "Other orders of layers (table 2)": orders}
    drawn = {
        "Test error with each seed, beside the published errors on CIFAR-10.": errors(
            {
                title: [_errors_of(found.results, name, known) for name in own]
                for title, own in tables.items()
                if own
            },
            out / "errors",
            FAILS,
        )
    }
    for state in STATES:
        panels = {
            kind: {
                title: _lines(found, own, state, direction, which, known)
                for direction, title in DIRECTIONS.items()
            }
            for kind, own, which in (
                ("shortcuts alone", others, "shortcut"),
                ("with what follows the addition", orders or others, "block"),
            )
        }
        if any(lines for directions in panels.values() for lines in directions.values()):
            caption = f"What comes along the shortcuts, relative to identities: {state} networks."
            drawn[caption] = products(panels, out / f"products_{state}", "mean size, relative to identities")
    return drawn


def _is_order(variant: Variant) -> bool:
    return any(variant.name == order.name for order in (ORIGINAL, *ORDERS))


def _title(name: str, known: Mapping[str, tuple[int, Variant]]) -> str:
    if name not in known:
        return name
    depth, variant = known[name]
    return variant.title if name == variant.name else f"{variant.title}, {depth} layers"


def _errors_of(results: Sequence[Row], name: str, known: Mapping[str, tuple[int, Variant]]) -> Errors:
    published = known[name][1].published if name in known else {}
    tests = [100 * value for value in values_of(results, name, "test_error")]
    return Errors(
        _title(name, known), tests, {f"ResNet-{depth}": error for depth, error in published.items()}
    )


def _lines(
    found: Findings, names: Sequence[str], state: str, direction: str, kind: str, known: Mapping[str, Any]
) -> list[Product]:
    lines = []
    for name in names:
        own = [row for row in found.others["carried"] if (row["variant"], row["state"]) == (name, state)]
        if own:
            keys = f"{direction}_{kind}", f"{direction}_closed_form"
            lines.append(
                Product(_title(name, known), *(np.array([row[key] for row in own], float) for key in keys))
            )
    return lines


def table_of_errors(chosen: Preset, results: Sequence[Row]) -> dict[str, Table]:
    """Errors, measured and published."""
    known, rows = variants(chosen), []
    for net in chosen.nets:
        own = [row for row in results if row["variant"] == net.name]
        errors = [values_of(results, net.name, name) for name in ("train_error", "test_error")]
        diverged = sum("diverged_at" in row for row in own)
        cells = [percent(values) if values else "" for values in errors]
        cells[1] += f" ({diverged} of {len(own)} diverged)" * bool(diverged)
        published = [str(own[0]["published"].get(f"resnet{depth}", "")) for depth in DEPTHS]
        rows.append([_title(net.name, known), *cells, *published])
    caption = (
        "Errors in percent, mean and standard deviation over seeds; and the published test errors of "
        "ResNet-110 and ResNet-164 on CIFAR-10, medians of 5 runs, where above 20 % is a failure."
    )
    return {caption: (["network", "training", "test", *(f"published, {depth}" for depth in DEPTHS)], rows)}


def table_of_products(chosen: Preset, results: Sequence[Row]) -> dict[str, Table]:
    """What comes through all blocks, with the closed form."""
    known, rows = variants(chosen), []
    names = ("forward_closed_form", *(f"{direction}_{kind}" for kind in KINDS for direction in DIRECTIONS))
    for net in chosen.nets:
        for state in STATES:
            values = [values_of(results, net.name, f"{state}_{name}") for name in names]
            if any(values):
                cells = [f"{np.mean(each):.2g}" if each else "" for each in values]
                rows.append([_title(net.name, known), state, *cells])
    caption = (
        "What comes through all blocks, relative to identities (means over seeds): the product of the "
        "shortcuts' scales; then measured, of the signal and of the gradient, through the shortcuts alone, "
        "and through these and what follows the additions (f)."
    )
    header = ["network", "state", "closed form", "signal", "gradient", "signal, f", "gradient, f"]
    return {caption: (header, rows)}


def values_of(results: Sequence[Row], variant: str, name: str) -> list[float]:
    """The variant's values of this name, of the seeds that have one."""
    return [row[name] for row in results if row["variant"] == variant and row.get(name) is not None]
