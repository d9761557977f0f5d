"""Part (b): correlation and variance of gradients against depth on normal inputs, with theory over them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.shattered import NORMS, HiddenLayers
from cnnjax.probes import theory
from cnnjax.probes.shattering import mean_cosine, mean_over_pairs
from cnnjax.report import shattering
from cnnjax.training.progress import each

from ..runner import Findings, cached_npz, spread
from .settings import Args, Family, Preset


@functools.cache
def initializer(depth: int, width: int, weights: str = "he") -> Any:
    """Compiled: a key to the variables of `HiddenLayers`, which look alike whatever the family."""
    model = HiddenLayers("feedforward", depth, width, "none", weights=weights)
    return jax.jit(lambda key: model.lazy_init(key, jnp.zeros((1, width))))


@functools.cache
def measurement(net: str, norm: str, depth: int, width: int) -> Any:
    """Compiled: variables, inputs, the readout's weights and beta to the statistics of one net."""
    normalize = jax.vmap(NORMS[norm])

    @jax.jit
    def measure(variables: Any, inputs: jax.Array, readout: jax.Array, beta: float) -> dict[str, jax.Array]:
        model = HiddenLayers(net, depth, width, norm, beta)

        def output(x: jax.Array) -> tuple[jax.Array, Any]:
            y, sown = model.apply(variables, x, mutable=["intermediates"])
            return jnp.sum(y @ readout), sown["intermediates"]["streams"][0]

        gradients, streams = jax.grad(output, has_aux=True)(inputs)
        active = (normalize(streams) > 0).astype(jnp.float32)
        scale = jnp.mean(1 / jnp.var(streams, 1), -1) if norm == "batch" else jnp.ones(depth)
        return {
            "correlation": mean_cosine(gradients),
            "variance": jnp.mean(gradients**2) / jnp.mean(readout**2),
            "activation": active.mean((1, 2)),
            "co_activation": jax.vmap(lambda a: mean_over_pairs(a @ a.T) / width)(active),
            "inverse_std": jnp.sqrt(scale),
        }

    return measure


def statistics(family: Family, depth: int, chosen: Preset, seed: int) -> dict[str, Any]:
    """The quantities in the theory, for normal inputs: arrays over `depth_nets` nets.

    `correlation` [net], the mean cosine over pairs; `variance` [net], relative to the output's gradient;
    `activation`, `co_activation` and `inverse_std` [net, layer].
    """
    initialize = initializer(depth, chosen.width)
    measure = measurement(family.net, family.norm, depth, chosen.width)
    found = []
    for key in jax.random.split(jax.random.key(seed), chosen.depth_nets):
        weights_key, inputs_key, readout_key = jax.random.split(key, 3)
        inputs = jax.random.normal(inputs_key, (chosen.points, chosen.width))
        readout = jax.random.normal(readout_key, (chosen.width,))
        found.append(measure(initialize(weights_key), inputs, readout, family.beta or 1.0))
    return jax.tree.map(lambda *values: np.stack(values), *found)


def theories(family: Family, depth: int) -> dict[str, Any]:
    """The predictions of the paper and of the corrected theory, by name."""
    beta = family.beta or 1.0
    return {
        ("feedforward", "none"): lambda: {
            "paper": theory.feedforward(depth),
            "corrected": theory.feedforward_arc_cosine(depth),
        },
        ("feedforward", "batch"): lambda: {
            "paper": theory.feedforward(depth),
            "corrected": theory.feedforward_batch_norm(depth),
        },
        ("residual", "none"): lambda: {
            "paper": theory.residual(depth),
            "corrected": theory.residual_arc_cosine(depth),
        },
        ("residual", "batch"): lambda: {
            "paper": theory.residual_batch_norm(depth, beta, theory.PAPER),
            "corrected": theory.residual_batch_norm(depth, beta),
        },
    }[family.net, family.norm]()


def plug_in(family: Family, measured: Mapping[str, Any]) -> float:
    """The correlation that measured (co-)activations predict."""
    activation, co_activation, inverse_std = (
        measured[name].mean(0) for name in ("activation", "co_activation", "inverse_std")
    )
    if family.beta is None:
        return theory.plug_in_feedforward(activation, co_activation)
    return theory.plug_in_residual(activation, co_activation, family.beta, inverse_std)


def against_depth(args: Args, found: Findings) -> None:
    """Correlation and variance on normal inputs, with theory."""
    chosen = args.chosen
    families = {}
    rows = []
    for family in each(chosen.families, "depth", "family"):
        measured = [
            cached_npz(
                args.out / "depth" / f"{family.name}_{depth}.npz",
                lambda family=family, depth=depth: statistics(family, depth, chosen, args.seed),
            )
            for depth in chosen.depths
        ]
        predicted = [theories(family, depth) for depth in chosen.depths]
        plugged = [plug_in(family, arrays) for arrays in measured]
        for depth, arrays, said, plug in zip(chosen.depths, measured, predicted, plugged, strict=True):
            row: dict[str, Any] = {"experiment": "depth", **family.fields, "depth": depth}
            for name in ("correlation", "variance"):
                over_nets = spread(arrays[name].tolist())
                theory = {source: getattr(moments, name) for source, moments in said.items()}
                row[name] = {"measured": over_nets["mean"], "std": over_nets["std"], **theory}
            row["correlation"]["plug_in"] = float(plug)
            found.results.append({**row, "nets": chosen.depth_nets})
            numbers = [
                *(row["correlation"][source] for source in ("measured", "paper", "corrected", "plug_in")),
                *(row["variance"][source] for source in ("measured", "paper", "corrected")),
            ]
            rows.append([family.title, str(depth), *(f"{number:.3g}" for number in numbers)])
        correlations, variances = (
            {
                "measured": np.stack([arrays[name] for arrays in measured], 1),
                **{
                    source: np.array([getattr(said[source], name) for said in predicted])
                    for source in ("paper", "corrected")
                },
            }
            for name in ("correlation", "variance")
        )
        correlations["plug_in"] = np.array(plugged)
        families[family.title] = (np.array(chosen.depths), correlations, variances)
    caption = (
        "Correlation and variance of gradients. Dashed: the paper; solid: corrected; dotted: from measured "
        "(co-)activation. Bars are two standard errors."
    )
    found.figures[caption] = shattering.against_depth(families, args.out / "depth_theory")
    header = [
        "net",
        "depth",
        "correlation",
        "paper",
        "corrected",
        "plug-in",
        "variance",
        "paper",
        "corrected",
    ]
    found.tables["Correlation and variance against depth on normal inputs, mean over nets."] = (header, rows)
