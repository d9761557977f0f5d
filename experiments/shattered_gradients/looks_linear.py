"""Part (d): a looks-linear net has no shattering at any depth, and it trains."""

from typing import Any

import jax

from cnnjax.config import Config
from cnnjax.data import load, spec
from cnnjax.models.shattered import HiddenLayers
from cnnjax.probes.shattering import mean_cosine
from cnnjax.report.curves import error_curves

from ..runner import Findings, cached_npz, run_all, spread
from .depth import initializer
from .settings import Args, Preset, Training

NETS = {
    "ReLU, He": {"activation": "relu", "kernel_init": "he_fan_in"},
    "CReLU, He": {"kernel_init": "he_fan_in"},
    "CReLU, looks-linear": {},
}
"""What is trained: options of `looks_linear{depth}`, by title."""


def linear_correlation(weights: str, depth: int, chosen: Preset, seed: int) -> Any:
    """Mean cosine of the gradients of one feedforward net without normalisation."""
    model: Any = HiddenLayers("feedforward", depth, chosen.width, "none", weights=weights)
    key = jax.random.key(seed)
    variables = initializer(depth, chosen.width, weights)(key)
    inputs = jax.random.normal(key, (chosen.points, chosen.width))
    return jax.jit(lambda x: mean_cosine(jax.grad(lambda x: model.apply(variables, x).sum())(x)))(inputs)


def configs(chosen: Training, flips: bool) -> dict[str, Config]:
    """Run to Config, Adam at a constant rate; the paper lowers it when the loss stops falling."""
    quarter = max(1, chosen.steps // 4)
    return {
        f"{title.replace(', ', '_')}_{depth}_seed{seed}": Config(
            model=f"looks_linear{depth}",
            model_options={"width": chosen.width, **options},
            data=chosen.data,
            downsample=chosen.downsample,
            augment="none" if chosen.downsample > 1 else "crop_flip" if flips else "crop",
            seed=seed,
            steps=chosen.steps,
            batch_size=chosen.batch_size,
            optimizer="adam",
            learning_rate=1e-3,
            schedule="constant",
            weight_decay=0.0,
            evaluate_every=quarter,
            checkpoint_every=quarter,
        )
        for title, options in NETS.items()
        for depth in chosen.depths
        for seed in range(chosen.seeds)
    }


def trained(args: Args, found: Findings) -> None:
    """Training curves of deep nets with and without the initialisation."""
    chosen = args.chosen.training
    data = load(chosen.data, args.data_dir)
    runs = configs(chosen, spec(chosen.data).flips)
    folder = args.out / "training"
    metrics = run_all(runs, folder, data)
    panels: dict[str, dict[str, list[Any]]] = {}
    rows = []
    for title in NETS:
        panels[title] = {}
        for depth in chosen.depths:
            names = [f"{title.replace(', ', '_')}_{depth}_seed{seed}" for seed in range(chosen.seeds)]
            panels[title][f"{depth} layers"] = [folder / name / "metrics.jsonl" for name in names]
            errors = {
                name: spread([metrics[run][name] for run in names]) for name in ("train_error", "test_error")
            }
            row = {"experiment": "looks_linear_training", "net": title, "depth": depth, "seeds": chosen.seeds}
            found.results.append({**row, **errors})
            rows.append([title, str(depth), *(f"{100 * error['mean']:.1f}" for error in errors.values())])
    caption = "Error of nets without normalisation and shortcuts against step; thin: training, bold: test."
    figure = error_curves(panels, args.out / "looks_linear", f"{data.name}, Adam, {chosen.steps:,} steps")
    found.figures[caption] = figure
    header = ["net", "depth", "training error", "test error"]
    note = "Errors in percent: training, mean over the last tenth of the steps; test, at the last."
    found.tables[note] = (header, rows)


def looks_linear(args: Args, found: Findings) -> None:
    """A looks-linear net's gradients are the same at every input."""
    chosen = args.chosen
    rows = []
    for weights in ("he", "looks_linear"):
        values = cached_npz(
            args.out / "looks_linear" / f"{weights}.npz",
            lambda weights=weights: {
                str(depth): linear_correlation(weights, depth, chosen, args.seed)
                for depth in chosen.linear_depths
            },
        )
        for depth in chosen.linear_depths:
            correlation = values[str(depth)].item()
            row = {"experiment": "looks_linear", "net": "feedforward", "norm": "none", "weights": weights}
            found.results.append({**row, "depth": depth, "correlation": correlation})
        rows.append([weights, *(f"{values[str(depth)]:.6f}" for depth in chosen.linear_depths)])
    header = ["weights", *(f"{depth} layers" for depth in chosen.linear_depths)]
    found.tables["Correlation of gradients without normalisation, one net each."] = (header, rows)
    trained(args, found)
