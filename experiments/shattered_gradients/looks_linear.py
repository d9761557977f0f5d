"""Part (d): a looks-linear net has no shattering at any depth."""

from typing import Any

import jax

from cnnjax.models.shattered import Layers
from cnnjax.probes.shattering import mean_cosine
from experiments.runner import Findings, kept
from experiments.shattered_gradients.depth import initializer
from experiments.shattered_gradients.settings import Args, Preset


def linear_correlation(weights: str, depth: int, chosen: Preset, seed: int) -> Any:
    """Mean cosine of the gradients of one feedforward net without normalisation."""
    model: Any = Layers("feedforward", depth, chosen.width, "none", weights=weights)
    key = jax.random.key(seed)
    variables = initializer(depth, chosen.width, weights)(key)
    inputs = jax.random.normal(key, (chosen.points, chosen.width))
    return jax.jit(lambda x: mean_cosine(jax.grad(lambda x: model.apply(variables, x).sum())(x)))(inputs)


def looks_linear(args: Args, found: Findings) -> None:
    """A looks-linear net's gradients are the same at every input."""
    chosen = args.chosen
    rows = []
    for weights in ("he", "looks_linear"):
        values = kept(
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
