"""Plain and residual nets measured inside their training steps."""

import dataclasses

import numpy as np

from cnnjax.config import Config
from cnnjax.data import Dataset, spec
from cnnjax.npz import read_arrays
from cnnjax.probes import LayerProbe
from cnnjax.report.depth import against_step, heat_map, microscope, responses

from ..runner import Findings, run_all
from .rows import row
from .settings import Args, Preset, Trained

FIRST_STEPS = (0, 1, 2, 5, 10, 20)


def configs(chosen: Preset, trained: tuple[Trained, ...], flips: bool) -> dict[str, Config]:
    """A Config for each run, by name: He et al.'s optimiser at its full rate from the first step."""
    paper = chosen.data.startswith("cifar") and chosen.steps >= 1_000
    shared = Config(
        model_options={"width": chosen.width, "loop": "scan"},
        data=chosen.data,
        downsample=chosen.downsample,
        augment="none" if not paper else "crop_flip" if flips else "crop",
        steps=max(1, chosen.steps),
        batch_size=chosen.batch_size,
        schedule="piecewise" if paper else "constant",
        evaluate_every=max(1, chosen.steps if not paper else 1_000),
        checkpoint_every=max(1, chosen.steps if not paper else 1_000),
    )
    return {
        f"{family}{depth}_seed{seed}": dataclasses.replace(shared, model=f"{family}{depth}", seed=seed)
        for family in trained
        for depth in chosen.depths
        for seed in range(chosen.seeds)
    }


def train(args: Args, data: Dataset) -> None:
    """Train every net with every seed, with a probe."""
    runs = configs(args.chosen, args.trained, spec(args.chosen.data).flips)
    run_all(runs, args.out, data, probes=LayerProbe(), **args.training)


def measure_training(args: Args, found: Findings) -> None:
    """Of the trained nets: rows for the measured steps, and the figures of training."""
    chosen = args.chosen
    measured: dict[str, dict[int, list[dict[str, np.ndarray]]]] = {}  # [model][step][seed]
    ratios: dict[str, dict[int, list[float]]] = {}
    for family in args.trained:
        for depth in chosen.depths:
            model = f"{family}{depth}"
            folders = [args.out / f"{model}_seed{seed}" / "probes" for seed in range(chosen.seeds)]
            steps = sorted(int(path.stem.removeprefix("step_")) for path in folders[0].glob("step_*.npz"))
            measured[model], ratios[model] = {}, {}
            for step in steps:
                by_seed = [read_arrays(folder / f"step_{step}.npz") for folder in folders]
                rows = [row(model, family, depth, seed, step, own) for seed, own in enumerate(by_seed)]
                found.results += [{"part": "training", **one} for one in rows]
                measured[model][step] = by_seed
                ratios[model][step] = [one["first_to_last"] for one in rows]

    deepest = [f"{family}{max(chosen.depths)}" for family in args.trained]
    gradients = {
        model: {step: _mean(by_seed, "weight_gradient_norm") for step, by_seed in measured[model].items()}
        for model in deepest
    }
    microscopic = {
        model: {step: values for step, values in curves.items() if step in FIRST_STEPS}
        for model, curves in gradients.items()
    }
    last = {model: _mean(steps[max(steps)], "response_std")[:-1] for model, steps in measured.items()}
    found.figures |= {
        "Norm of the first convolution's weight gradient over that of the last; bands over seeds.": (
            against_step(ratios, args.out / "ratio", "first / last weight gradient")
        ),
        "The first steps: norm of the weight gradient, mean over seeds.": microscope(
            microscopic, args.out / "microscope", "weight gradient"
        ),
        "Norm of the weight gradient over depth and steps, mean over seeds.": heat_map(
            gradients, args.out / "heat_map", "weight gradient"
        ),
        "Standard deviation of the responses after BatchNorm in the last measured step, layers in order and "
        "sorted (He et al. 2015, figure 7).": responses(last, args.out / "responses"),
    }


def _mean(by_seed: list[dict[str, np.ndarray]], field: str) -> np.ndarray:
    """Geometric mean over seeds, [layer]."""
    return np.exp(np.mean([np.log(own[field]) for own in by_seed], 0))
