"""Part (a): derivatives of nets with one input and one output over a grid, beside brown and white noise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.shattered import ScalarNet
from cnnjax.probes.shattering import autocorrelation, brown_noise, white_noise
from cnnjax.report.shattering import autocorrelations, signals
from cnnjax.training.progress import each

from ..runner import Findings, cached_npz
from .settings import Args, Family, Preset

SHOWN_LAGS = (1, 4, 8, 15)
TAKEN = {
    "frozen": "statistics as constants",
    "batch": "statistics as functions of all points",
}
"""What the derivative takes the means and variances for, in words."""


@functools.cache
def programs(net: str, norm: str, depth: int, width: int, points: int, statistics: str) -> tuple[Any, Any]:
    """Compiled: a key to variables, alike whatever the family; and those and beta to derivatives."""
    grid = jnp.linspace(-2, 2, points)

    def derivatives(variables: Any, beta: float) -> jax.Array:
        model: Any = ScalarNet(net, depth, width, norm, beta, statistics)
        return jax.grad(lambda t: model.apply(variables, t).sum())(grid)

    return _initializer(depth, width), jax.jit(derivatives)


@functools.cache
def _initializer(depth: int, width: int) -> Any:
    return jax.jit(lambda key: ScalarNet("feedforward", depth, width).lazy_init(key, jnp.zeros(1)))


def grid_gradients(family: Family, depth: int, nets: int, chosen: Preset, args: Args) -> Any:
    """Derivatives of `nets` scalar nets over the grid on [-2, 2]: [net, point]."""
    initialize, derivatives = programs(
        family.net, family.norm, depth, chosen.width, chosen.points, args.statistics
    )
    keys = jax.random.split(jax.random.key(args.seed), nets)
    return jax.device_get([derivatives(initialize(key), family.beta or 1.0) for key in keys])


def one_dimensional(args: Args, found: Findings) -> None:
    """Autocorrelation functions against depth, and the signals of a few nets with their covariance."""
    chosen = args.chosen
    folder = args.out / "one_dimensional"
    taken = TAKEN[args.statistics]
    noises = {"white": white_noise, "brown": brown_noise}
    curves: dict[str, dict[str, Any]] = {}
    rows = []
    for family in each(chosen.grid_families, "one_dimensional", "family"):
        gradients = cached_npz(
            folder / f"{family.name}.npz",
            lambda family=family: {
                str(depth): grid_gradients(family, depth, chosen.nets, chosen, args)
                for depth in chosen.grid_depths
            },
        )
        curves[family.title] = {}
        for depth in chosen.grid_depths:
            values = np.asarray(autocorrelation(jnp.asarray(gradients[str(depth)])))
            curves[family.title][f"{depth} layers"] = values
            mean = values.mean(0)
            row = {"experiment": "one_dimensional", **family.fields, "depth": depth, "nets": len(values)}
            found.results.append({**row, "statistics": args.statistics, "autocorrelation": mean.tolist()})
            rows.append([family.title, str(depth), *(f"{mean[lag]:.2f}" for lag in SHOWN_LAGS)])
    key = jax.random.key(args.seed)
    noise = {name: make(key, (chosen.covariance_nets, chosen.points)) for name, make in noises.items()}
    curves["noise"] = {name: np.asarray(autocorrelation(series)) for name, series in noise.items()}
    for name, values in curves["noise"].items():
        mean = values.mean(0)
        found.results.append({"experiment": "noise", "noise": name, "autocorrelation": mean.tolist()})
        rows.append([f"{name} noise", "", *(f"{mean[lag]:.2f}" for lag in SHOWN_LAGS)])

    shown = cached_npz(
        folder / "signals.npz",
        lambda: {
            f"{_layers(depth)}, {family.title}": grid_gradients(
                family, depth, chosen.covariance_nets, chosen, args
            )
            for family, depth in chosen.signals
        },
    )
    series = {**shown, **{f"{name} noise": np.asarray(noise[name]) for name in ("brown", "white")}}
    found.figures |= {
        f"Gradients over the grid (top) and their covariance over nets (bottom), {taken}.": signals(
            series, args.out / "signals"
        ),
        f"Autocorrelation of the gradients, {taken}; bands are two standard errors.": autocorrelations(
            curves, args.out / "autocorrelation"
        ),
    }
    header = ["net", "depth", *(f"lag {lag}" for lag in SHOWN_LAGS)]
    found.tables[f"Autocorrelation of the gradient over the grid, {taken}, mean over nets."] = (header, rows)


def _layers(depth: int) -> str:
    return "1 layer" if depth == 1 else f"{depth} layers"
