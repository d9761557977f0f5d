"""Part (d): a looks-linear net has no shattering at any depth, and it trains, as residual nets do."""

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

PLAIN = {
    "ReLU, He": {"activation": "relu", "kernel_init": "he_fan_in"},
    "CReLU, He": {"kernel_init": "he_fan_in"},
    "CReLU, looks-linear": {},
}
"""Options of `looks_linear{depth}`, by title."""
RESIDUAL = "residual, BatchNorm"


def networks(depth: int) -> dict[str, dict[str, Any]]:
    """What is trained at this depth, 4n + 2: fields of a Config, by title.

    The residual net has a shortcut around every two of the same 4n convolutions between the first and the
    classifier; if n is odd, its first two stages have one more than the others, and its last two one less.
    """
    nets = {
        title: {"model": f"looks_linear{depth}", "model_options": options} for title, options in PLAIN.items()
    }
    blocks, odd = divmod((depth - 2) // 4, 2)
    if blocks:
        sizes = (blocks + odd, blocks + odd, blocks, blocks)
        nets[RESIDUAL] = {"model": "resnet20", "model_options": {"stage_sizes": sizes}}
    return nets


def run(title: str, depth: int, seed: int) -> str:
    """The folder of a run."""
    return f"{title.replace(', ', '_')}_{depth}_seed{seed}"


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
        run(title, depth, seed): Config(
            model=net["model"],
            model_options={"width": chosen.width, **net["model_options"]},
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
        for depth in chosen.depths
        for title, net in networks(depth).items()
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
    for title in (*PLAIN, RESIDUAL):
        for depth in (depth for depth in chosen.depths if title in networks(depth)):
            names = [run(title, depth, seed) for seed in range(chosen.seeds)]
            files = [folder / name / "metrics.jsonl" for name in names]
            panels.setdefault(title, {})[f"{depth} layers"] = files
            errors = {
                name: spread([metrics[one][name] for one in names]) for name in ("train_error", "test_error")
            }
            row = {"experiment": "looks_linear_training", "net": title, "depth": depth, "seeds": chosen.seeds}
            found.results.append({**row, **errors})
            rows.append([title, str(depth), *(f"{100 * error['mean']:.1f}" for error in errors.values())])
    caption = (
        "Error against step, thin: training, bold: test. The first nets have neither normalisation nor "
        "shortcuts, the residual ones both."
    )
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
