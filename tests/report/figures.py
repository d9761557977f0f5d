"""Inputs for every function that draws, as small as they can be and still use all it has."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnjax.report import (
    activations,
    bars,
    causes,
    curves,
    depth,
    ensembles,
    health,
    identity,
    intervals,
    landscape,
    lesions,
    mappings,
    paths,
    scaling,
    shattering,
    speedrun,
    trainability,
)

SEEDS, POINTS = 3, 6


def values(*shape: int, low: float = 0.1, high: float = 0.9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape)


def metrics(folder: Path, name: str) -> list[Path]:
    """metrics.jsonl of two seeds."""
    files = []
    for seed in range(2):
        errors = values(100, seed=seed)
        lines = [{"step": step + 1, "train_error": error} for step, error in enumerate(errors)]
        lines += [{"step": step, "test_error": errors[step - 1] + 0.01} for step in (50, 100)]
        files.append(folder / f"{name}_{seed}.jsonl")
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return files


def _health(stem: Path) -> None:
    statistics = {name: values(POINTS) for name in health.PANELS}
    health.over_depth(statistics, values(9), 2.3, values(2), "a net", stem.with_suffix(".png"))


def _identity(stem: Path) -> None:
    files = metrics(stem.parent, "start")
    kinds = list(identity.COLOURS)
    lines = [
        identity.Curve("copied", kinds[0], files),
        identity.Curve("lost", kinds[1], files, diverged=True),
    ]
    identity.further_training({"rate 0.1": lines, "rate 0.01": lines[:1]}, {"scratch": (10.0, 12.0)}, stem)


def _scaling(stem: Path) -> None:
    size = {"state": 2**20, "working": 2**21}
    rows = [
        {
            "devices": devices,
            "batch": batch,
            "shard": "replicated",
            "images_per_device": batch // devices,
            "images_per_second": 100.0 * devices,
            "strong_efficiency": 0.9,
            "weak_efficiency": 0.8,
            "mesh": f"data={devices}",
            "bytes_per_device": size,
        }
        for devices, batch in ((1, 8), (2, 8), (1, 4))
    ]
    scaling.scaling(rows, stem)


def _mapping_errors(stem: Path) -> None:
    rows = [
        mappings.Errors("identity", (7.0, 7.5), {"table 1": 6.6}),
        mappings.Errors("gated", (9.0, 9.5), {"table 1": np.inf, "table 2": 8.7}),
    ]
    mappings.errors({"110 layers": rows, "20 layers": rows[:1]}, stem, fails=20.0)


def _products(stem: Path) -> None:
    zero, some = np.zeros((2, 4)), values(2, 4)
    lines = [mappings.Product("half", some, some / 2), mappings.Product("none", zero, zero * np.nan)]
    mappings.products({"signal": {"forward": lines, "backward": lines[:1]}}, stem, "product")


def _against_depth(stem: Path) -> None:
    depths, measured = np.array([2, 4, 8]), values(SEEDS, 3)
    theory = {name: values(3) for name in ("paper", "corrected", "plug_in")}
    quantities = {"measured": measured, **theory}
    large = {name: 100 * value for name, value in quantities.items()}
    shattering.against_depth({"plain": (depths, quantities, large)}, stem)


def _sample_measures(stem: Path) -> None:
    measures = {
        name: values(SEEDS, 3) for name in ("mean_cosine", "normalised_rank", "effective_rank", "alignment")
    }
    shattering.sample_measures(np.array([2, 4, 8]), {"plain": measures, "residual": measures}, stem)


BLOCKS = {"plain": (values(2), values(2, 5)), "residual": (values(3), values(3, 5))}
DAMAGE = {0.2: values(4), 0.8: values(4, seed=1)}
STACKS = {"relu": (values(2, 5), values(5)), "tanh": (values(2, 5), values(5))}
STATES = {
    state: {name: values(2, 5) for name in ("single", "exact_shares", "sampled_shares")}
    for state in ("initial", "trained")
}
SPECTRA = {"plain": [(values(5, low=-50, high=900), values(5)), (values(4, low=1, high=20), values(4))]}
NETS = {"one": values(2, 5), "two": values(2, 5, seed=1)}
STEPS = {0: values(5), 10: values(5, seed=1), 100: values(5, seed=2)}
PLANE = (np.linspace(-1, 1, 5), np.linspace(-2, 2, 4), values(5, 4, high=90.0), values(3, 2))
MEMBERS = {"net": {kind: {1: values(2), 2: values(2, seed=1)} for kind in ensembles.STYLES}}
POINTS_OF_CAUSES = [causes.Point(f"arm {n}", "training", 10.0**n, 5.0 * n) for n in (1, 2)]
REMEDIES = {"plain56": [("none", "reference", (30.0, 31.0)), ("Adam", "training", (20.0, None))]}

FIGURES: dict[Callable, Callable[[Path], object]] = {
    activations.training_errors: lambda stem: activations.training_errors(
        {"with": {"relu": list(values(2, 20)), "elu": list(values(2, 20, seed=1))}}, 0.1, 4, stem
    ),
    activations.gradients_in_stacks: lambda stem: activations.gradients_in_stacks({"He": STACKS}, stem),
    bars.bars: lambda stem: bars.bars([("a", "x", 1.5), ("a", "y", 2.5), ("b", "x", 3.5)], stem, "speed"),
    causes.errors_by_remedy: lambda stem: causes.errors_by_remedy(
        REMEDIES, {"plain56": {"plain20": (10.0, 12.0)}}, stem, 90.0
    ),
    causes.against_statistics: lambda stem: causes.against_statistics(
        {"norm": POINTS_OF_CAUSES, "ratio": POINTS_OF_CAUSES}, stem, "error"
    ),
    curves.error_curves: lambda stem: curves.error_curves(
        {name: {f"{name}20": metrics(stem.parent, name)} for name in ("plain", "resnet")}, stem, "data"
    ),
    depth.against_depth: lambda stem: depth.against_depth(
        {"plain": NETS, "residual": NETS, "none": NETS, "more": NETS, "last": NETS},
        {"plain": ("theory", values(5))},
        stem,
        "norm",
    ),
    depth.microscope: lambda stem: depth.microscope({"one": STEPS, "two": STEPS}, stem, "norm"),
    depth.responses: lambda stem: depth.responses({"one": values(5), "two": values(6)}, stem),
    depth.against_step: lambda stem: depth.against_step({"one": {0: [0.1, 0.2], 10: [0.3, 0.4]}}, stem, "q"),
    depth.heat_map: lambda stem: depth.heat_map({"one": STEPS, "two": STEPS}, stem, "norm"),
    ensembles.errors_of_ensembles: lambda stem: ensembles.errors_of_ensembles(
        MEMBERS, {"net": {"paths": {0.5: values(2), 1.0: values(2)}}}, stem
    ),
    health.over_depth: _health,
    identity.further_training: _identity,
    identity.distances: lambda stem: identity.distances({"copied": NETS, "random": NETS}, stem),
    landscape.planes: lambda stem: landscape.planes({"one": values(5, 5, high=9.0)}, 1.0, stem),
    landscape.trajectories: lambda stem: landscape.trajectories({"one": PLANE, "two": PLANE}, stem),
    landscape.lines: lambda stem: landscape.lines(NETS, 1.0, stem),
    landscape.spectra: lambda stem: landscape.spectra(SPECTRA, stem),
    landscape.batch_sizes: lambda stem: landscape.batch_sizes(
        NETS, {"trace": {"one": [1.0, 2.0], "two": [3.0, 4.0]}}, 1.0, stem
    ),
    landscape.ways: lambda stem: landscape.ways({"loss": NETS, "error": NETS}, np.linspace(0, 1, 5), stem),
    lesions.single_blocks: lambda stem: lesions.single_blocks({"deleted": BLOCKS}, stem, 0.9),
    lesions.many_blocks: lambda stem: lesions.many_blocks(
        {"share": {"net": {"kept": DAMAGE, "new": {0.2: values(4, seed=3), 0.8: values(4)}}}}, stem, 0.9
    ),
    mappings.errors: _mapping_errors,
    mappings.products: _products,
    paths.by_length: lambda stem: paths.by_length({"one": STATES, "two": STATES}, stem),
    scaling.scaling: _scaling,
    shattering.signals: lambda stem: shattering.signals({"a, b": values(3, 8), "c": values(3, 8)}, stem),
    shattering.autocorrelations: lambda stem: shattering.autocorrelations(
        {"plain": NETS, "residual": NETS, "highway": NETS}, stem
    ),
    shattering.against_depth: _against_depth,
    shattering.correlations: lambda stem: shattering.correlations(
        {"plain": {"2": values(4, 4), "8": values(4, 4)}, "residual": {"2": values(4, 4), "8": values(4, 4)}},
        stem,
    ),
    shattering.sample_measures: _sample_measures,
    intervals.differences_by_study: lambda stem: intervals.differences_by_study(
        {
            "a study": intervals.Panel(
                "a base", {"an arm": (0.01, 0.02)}, {"an arm": (0.0, 0.02)}, {"an arm": 0.5}
            )
        },
        stem,
        "points",
    ),
    speedrun.errors_against_seconds: lambda stem: speedrun.errors_against_seconds(
        {"net": [(10.0, 0.1, 0.01), (30.0, 0.05, np.nan)]}, {"flip": (0.01, 0.002), "EMA": (0.0, 0.1)}, stem
    ),
    trainability.verdicts: lambda stem: trainability.verdicts(
        {"plain": [(0.1, 2.0), (0.2, 2.1)], "residual": [(0.9, 0.1)]}, (0.4, 0.6), 1.15, stem
    ),
}
"""How to draw, into files with a stem, by the function that does."""
