"""The rate of each network, when it reaches 25 % training error, and what it has in the end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.files import read_jsonl
from cnnjax.report.activations import training_errors

from ..runner import Findings, percent
from .settings import PLACES, THRESHOLD, Args, Arm, Preset, Tried


def try_rates(args: Args) -> list[Tried]:
    """Every network with its mean training error over all steps by rate; 1 if the run diverged.

    This is lowest for what learns fastest, also where 25 % is never reached.
    """
    chosen = args.chosen

    def mean(arm: Arm, rate: float) -> float:
        errors = train_errors(args, arm, rate, 0)
        return float(errors.mean()) if len(errors) == chosen.steps else 1.0

    return [Tried(arm, {rate: mean(arm, rate) for rate in chosen.rates}) for arm in args.arms()]


def train_errors(args: Args, arm: Arm, rate: float, seed: int) -> np.ndarray:
    """Training error of each step's batch, [step]; shorter than the run if it diverged."""
    path = args.out / arm.run(rate, seed) / "metrics.jsonl"
    lines = read_jsonl(path) if path.exists() else []
    return np.array([line["train_error"] for line in lines if "train_error" in line])


def steps_to(errors: np.ndarray, window: int, threshold: float = THRESHOLD) -> int | None:
    """The first step by which the mean error [step] of the last `window` steps is at most the threshold."""
    if len(errors) < window:
        return None
    means = np.convolve(errors, np.full(window, 1 / window), "valid")
    reached = np.flatnonzero(means <= threshold + 1e-9)
    return int(reached[0]) + window if len(reached) else None


def conclude(
    args: Args,
    ends: Mapping[str, Mapping[str, float]],
    tried: Sequence[Tried],
    found: Findings,
) -> None:
    """Write rows, table and figure; `ends` are the final metrics by run."""
    chosen = args.chosen
    curves: dict[str, dict[str, list[np.ndarray]]] = {}
    cells = []
    for one in tried:
        arm, rate, rows = one.arm, one.rate, []
        which = {"model": arm.net.name, "activation": arm.activation.name, "place": arm.place}
        found.others.setdefault("rates", []).append(
            {**which, "mean_error": {f"{rate:g}": round(error, 6) for rate, error in one.errors.items()}}
        )
        for seed in range(chosen.seeds):
            errors, end = train_errors(args, arm, rate, seed), ends[arm.run(rate, seed)]
            row = {**which, "seed": seed, "rate": rate, "steps_to_25": steps_to(errors, chosen.window)}
            names = ("train_error", "test_error")
            row |= {name: round(end[name], 6) if name in end else None for name in names}
            rows.append(row)
            several = f"{arm.net.name}, " if len(chosen.nets) > 1 else ""
            titles = curves.setdefault(f"{several}{arm.place}", {})
            titles.setdefault(arm.activation.title, []).append(errors)
        found.results += rows
        cells.append(_cells(arm, rows, chosen))
    found.tables[_CAPTION] = (_HEADER, cells)
    figure = training_errors(curves, THRESHOLD, chosen.window, args.out / "training")
    found.figures["Training error, each at its best rate; dotted: 25 %; bands: all seeds."] = figure


def answer(found: Findings) -> str:
    """What the results say, in words; a ratio is of means, and only if all seeds reach 25 %."""
    said = []
    for model in dict.fromkeys(row["model"] for row in found.results):
        for place in PLACES:
            relu = _mean_steps(found.results, model, "relu", place)
            others = {name: _mean_steps(found.results, model, name, place) for name in ("tanh", "sigmoid")}
            words = [f"{relu:.0f} with ReLU" if relu else "not reached by all seeds with ReLU"]
            for name, steps in others.items():
                times = f" ({steps / relu:.1f} times as many)" if steps and relu else ""
                words.append(f"{steps:.0f} with {name}{times}" if steps else f"not by all seeds with {name}")
            said.append(f"{model}, {place}: {', '.join(words)}.")
    factors = [
        row["factor"]
        for row in found.others["factor_per_layer"]
        if (row["activation"], row["place"]) == ("sigmoid", "without BatchNorm")
    ]
    left = f" At initialisation a layer of sigmoids leaves {np.mean(factors or [0]):.3f} of the gradient."
    return (
        f"Answer. Steps to 25 % training error: {' '.join(said)} The paper has a factor of six between tanh "
        f"and ReLU.{left * bool(factors)}"
    )


_HEADER = ["model", "BatchNorm", "activation", "rate", "steps to 25 %", "training error", "test error"]
_CAPTION = (
    "Rate: that with the lowest mean training error over the run of seed 0 (* lowest or highest of those "
    "tried). Steps until the mean training error of a few steps is 25 %, mean over seeds and its range. "
    "Errors in percent: training over the last tenth of the steps, test at the end, mean and standard "
    "deviation over seeds."
)


def _mean_steps(
    results: Sequence[Mapping[str, Any]], model: str, activation: str, place: str
) -> float | None:
    where = {"model": model, "activation": activation, "place": place}
    steps = [row["steps_to_25"] for row in results if where.items() <= row.items()]
    return None if not steps or None in steps else float(np.mean(steps))


def _cells(arm: Arm, rows: Sequence[Mapping[str, Any]], chosen: Preset) -> list[str]:
    rate = rows[0]["rate"]
    edge = "*" * (rate in (min(chosen.rates), max(chosen.rates)) and len(chosen.rates) > 1)
    steps = [row["steps_to_25"] for row in rows if row["steps_to_25"] is not None]
    text = f"{np.mean(steps):.0f} ({min(steps)} to {max(steps)})" if steps else "not reached"
    if 0 < len(steps) < len(rows):
        text += f", {len(rows) - len(steps)} of {len(rows)} not"
    ended = [row for row in rows if row["test_error"] is not None]
    errors = [
        percent([row[name] for row in ended]) if ended else "diverged"
        for name in ("train_error", "test_error")
    ]
    return [arm.net.name, arm.place, arm.activation.title, f"{rate:g}{edge}", text, *errors]
