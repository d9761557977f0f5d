"""Shattered gradients: how alike are a network's gradients at different inputs, and what keeps them so?

Balduzzi et al. 2017, figures 1 and 2 and theorems 1 to 3: the deeper a feedforward net, the more its
gradients over inputs look like white noise; in a residual net with BatchNorm they stay closer to brown noise.

Reproductions have failed to find this, because it needs normalisation: without it the neurons of a deep net
come to be active for the same inputs, and gradients stay alike. The feedforward nets here come without, with
mean-centring alone and with BatchNorm.

`one_dimensional` draws derivatives of nets from a number to a number over a grid; `depth` compares
correlation and variance with theory on normal inputs; `looks_linear` shows that a looks-linear initialisation
has no shattering at any depth. BatchNorm's statistics are frozen: constants to the derivative.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.errors import UserError, one_line_errors

Part = Literal["one_dimensional", "depth", "looks_linear"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        width: neurons a layer.
        points: inputs: of the grid, or normal vectors.
        nets: that the autocorrelation is averaged over.
        covariance_nets: for the covariance matrices.
        depth_nets: for correlation and variance against depth.
        grid_depths: depths of the autocorrelation functions.
        depths: of correlation and variance.
        linear_depths: of looks-linear nets.
    """

    width: int = 200
    points: int = 256
    nets: int = 20
    covariance_nets: int = 100
    depth_nets: int = 8
    grid_depths: tuple[int, ...] = (2, 4, 10, 24, 50)
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50)
    linear_depths: tuple[int, ...] = (2, 10, 50, 200)


PRESETS = {
    "quick": Preset(),
    "paper": Preset(nets=100, covariance_nets=1000, depth_nets=100),
    "smoke": Preset(16, 32, 3, 3, 2, (2,), (1,), (4,)),
}
SHOWN_LAGS = (1, 4, 8, 15)


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure how alike gradients at different inputs are, against depth."""

    preset: Literal["quick", "paper", "smoke"] = "quick"
    """quick: minutes on a laptop; paper: the same with more nets; smoke: seconds."""
    parts: tuple[Part, ...] = ("one_dimensional", "depth", "looks_linear")
    """What to measure."""
    nets: int | None = None
    """Networks that the autocorrelation functions are averaged over; quick has the paper's 20."""
    seed: int = 0
    """Of all weights and inputs."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/shattered_gradients")
    """Folder for the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset, with what the command line says instead; raises UserError for what cannot be."""
        chosen = PRESETS[self.preset]
        if self.nets is not None:
            if self.nets < 2:
                raise UserError(f"--nets {self.nets}: must be at least 2, for an error of the mean")
            chosen = dataclasses.replace(chosen, nets=self.nets)
        return chosen


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that differ in depth only; feedforward nets have no beta."""

    net: Literal["feedforward", "residual"]
    norm: Literal["none", "center", "batch"]
    beta: float | None = None

    @property
    def name(self) -> str:
        """The name of its file."""
        return "_".join([self.net, self.norm, *([] if self.beta is None else [f"{self.beta:g}"])])

    @property
    def title(self) -> str:
        """What figures call it."""
        norm = {"none": "no norm", "center": "mean-centred", "batch": "BatchNorm"}[self.norm]
        return f"{self.net}, {norm}" + ("" if self.beta is None else f", β = {self.beta:g}")

    @property
    def fields(self) -> dict[str, Any]:
        """What a row of the summary says of it."""
        return {"net": self.net, "norm": self.norm, "beta": self.beta}


NO_NORM, CENTER, BATCH = (Family("feedforward", norm) for norm in ("none", "center", "batch"))
RESIDUAL_NO_NORM = Family("residual", "none", 1.0)
RESIDUAL, RESIDUAL_HALF, RESIDUAL_TENTH = (Family("residual", "batch", beta) for beta in (1.0, 0.5, 0.1))
ONE_DIMENSIONAL = (NO_NORM, CENTER, BATCH, RESIDUAL_NO_NORM, RESIDUAL, RESIDUAL_TENTH)
AGAINST_DEPTH = (NO_NORM, BATCH, RESIDUAL_NO_NORM, RESIDUAL, RESIDUAL_HALF, RESIDUAL_TENTH)
SIGNALS = {
    "1 layer": (BATCH, 1),
    "24 layers, mean-centred": (CENTER, 24),
    "residual, 50, β = 0.1": (RESIDUAL_TENTH, 50),
}


@functools.cache
def initializer(net: Literal["scalar", "vector"], depth: int, chosen: Preset, weights: str = "he") -> Any:
    """A compiled function of a key to variables; they look alike whatever the family."""
    import jax
    import jax.numpy as jnp

    from cnnjax.models.shattered import Layers, ScalarNet

    if net == "scalar":
        model, shape = ScalarNet("feedforward", depth, chosen.width), (chosen.points,)
    else:
        model = Layers("feedforward", depth, chosen.width, "none", weights=weights)
        shape = (chosen.points, chosen.width)
    return jax.jit(lambda key: model.lazy_init(key, jax.ShapeDtypeStruct(shape, jnp.float32)))


def grid_gradients(family: Family, depth: int, nets: int, chosen: Preset, seed: int) -> Any:
    """Derivatives of `nets` scalar nets over the grid on [-2, 2]: [net, point]."""
    import jax
    import jax.numpy as jnp

    from cnnjax.models.shattered import ScalarNet

    grid = jnp.linspace(-2, 2, chosen.points)

    @jax.jit
    def derivatives(variables, beta):
        model: Any = ScalarNet(family.net, depth, chosen.width, family.norm, beta)
        return jax.grad(lambda t: model.apply(variables, t).sum())(grid)

    initialize = initializer("scalar", depth, chosen)
    keys = jax.random.split(jax.random.key(seed), nets)
    return jax.device_get([derivatives(initialize(key), family.beta or 1.0) for key in keys])


def statistics(family: Family, depth: int, chosen: Preset, seed: int) -> dict[str, Any]:
    """What theory speaks of, on normal inputs: arrays over `depth_nets` nets.

    `correlation` [net], the mean cosine over pairs; `variance` [net], relative to the output's gradient;
    `activation`, `co_activation` and `inverse_std` [net, layer].
    """
    import jax
    import jax.numpy as jnp

    from cnnjax.models.shattered import NORMS, Layers
    from cnnjax.probes.shattering import mean_cosine, mean_over_pairs

    norm = jax.vmap(NORMS[family.norm])

    @jax.jit
    def measure(variables, inputs, readout, beta):
        model = Layers(family.net, depth, chosen.width, family.norm, beta)

        def output(x):
            y, sown = model.apply(variables, x, mutable=["intermediates"])
            return jnp.sum(y @ readout), sown["intermediates"]["streams"][0]

        gradients, streams = jax.grad(output, has_aux=True)(inputs)
        active = (norm(streams) > 0).astype(jnp.float32)
        scale = jnp.mean(1 / jnp.var(streams, 1), -1) if family.norm == "batch" else jnp.ones(depth)
        return {
            "correlation": mean_cosine(gradients),
            "variance": jnp.mean(gradients**2) / jnp.mean(readout**2),
            "activation": active.mean((1, 2)),
            "co_activation": jax.vmap(lambda a: mean_over_pairs(a @ a.T) / chosen.width)(active),
            "inverse_std": jnp.sqrt(scale),
        }

    initialize = initializer("vector", depth, chosen)
    found = []
    for key in jax.random.split(jax.random.key(seed), chosen.depth_nets):
        weights_key, inputs_key, readout_key = jax.random.split(key, 3)
        inputs = jax.random.normal(inputs_key, (chosen.points, chosen.width))
        readout = jax.random.normal(readout_key, (chosen.width,))
        found.append(measure(initialize(weights_key), inputs, readout, family.beta or 1.0))
    return jax.tree.map(lambda *values: jnp.stack(values), *found)


def theories(family: Family, depth: int) -> dict[str, Any]:
    """What the paper and what the corrected theory say, by name."""
    from cnnjax.probes import theory

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
    from cnnjax.probes import theory

    activation, co_activation, inverse_std = (
        measured[name].mean(0) for name in ("activation", "co_activation", "inverse_std")
    )
    if family.beta is None:
        return theory.plug_in_feedforward(activation, co_activation)
    return theory.plug_in_residual(activation, co_activation, family.beta, inverse_std)


def linear_correlation(weights: str, depth: int, chosen: Preset, seed: int) -> Any:
    """Mean cosine of the gradients of one feedforward net without normalisation."""
    import jax

    from cnnjax.models.shattered import Layers
    from cnnjax.probes.shattering import mean_cosine

    model: Any = Layers("feedforward", depth, chosen.width, "none", weights=weights)
    key = jax.random.key(seed)
    variables = initializer("vector", depth, chosen, weights)(key)
    inputs = jax.random.normal(key, (chosen.points, chosen.width))
    return jax.jit(lambda x: mean_cosine(jax.grad(lambda x: model.apply(variables, x).sum())(x)))(inputs)


@dataclasses.dataclass
class Findings:
    """What the parts give to the summary, the page and the terminal."""

    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    figures: dict[str, dict[str, Path]] = dataclasses.field(default_factory=dict)
    tables: dict[str, Any] = dataclasses.field(default_factory=dict)


def one_dimensional(args: Args, found: Findings) -> None:
    """Part (a): derivatives over a grid, with brown and white noise beside them."""
    import jax
    import numpy as np

    from cnnjax.probes.shattering import autocorrelation, brown_noise, white_noise
    from cnnjax.report.shattering import autocorrelations, signals
    from experiments.runner import kept

    chosen = args.chosen
    folder = args.out / "one_dimensional"
    noises = {"white": white_noise, "brown": brown_noise}
    curves: dict[str, dict[str, Any]] = {}
    rows = []
    for family in ONE_DIMENSIONAL:
        gradients = kept(
            folder / f"{family.name}.npz",
            lambda family=family: {
                str(depth): grid_gradients(family, depth, chosen.nets, chosen, args.seed)
                for depth in chosen.grid_depths
            },
        )
        curves[family.title] = {}
        for depth in chosen.grid_depths:
            values = np.asarray(autocorrelation(jax.numpy.asarray(gradients[str(depth)])))
            curves[family.title][f"{depth} layers"] = values
            mean = values.mean(0)
            row = {"experiment": "one_dimensional", **family.fields, "depth": depth, "nets": len(values)}
            found.results.append({**row, "autocorrelation": mean.tolist()})
            rows.append([family.title, str(depth), *(f"{mean[lag]:.2f}" for lag in SHOWN_LAGS)])
    key = jax.random.key(args.seed)
    noise = {name: make(key, (chosen.covariance_nets, chosen.points)) for name, make in noises.items()}
    curves["noise"] = {name: np.asarray(autocorrelation(series)) for name, series in noise.items()}
    for name, values in curves["noise"].items():
        mean = values.mean(0)
        found.results.append({"experiment": "noise", "noise": name, "autocorrelation": mean.tolist()})
        rows.append([f"{name} noise", "", *(f"{mean[lag]:.2f}" for lag in SHOWN_LAGS)])

    shown = kept(
        folder / "signals.npz",
        lambda: {
            title: grid_gradients(family, depth, chosen.covariance_nets, chosen, args.seed)
            for title, (family, depth) in SIGNALS.items()
        },
    )
    series = {**shown, **{f"{name} noise": np.asarray(noise[name]) for name in ("brown", "white")}}
    found.figures["Gradients over the grid (top) and their covariance over nets (bottom)."] = signals(
        series, args.out / "signals"
    )
    found.figures["Autocorrelation of the gradients; bands are two standard errors."] = autocorrelations(
        curves, args.out / "autocorrelation"
    )
    header = ["net", "depth", *(f"lag {lag}" for lag in SHOWN_LAGS)]
    found.tables["Autocorrelation of the gradient over the grid, mean over nets."] = (header, rows)


def against_depth(args: Args, found: Findings) -> None:
    """Part (b): correlation and variance on normal inputs, with theory."""
    import numpy as np

    from cnnjax.report.shattering import against_depth as draw
    from experiments.runner import kept, spread

    chosen = args.chosen
    families = {}
    rows = []
    for family in AGAINST_DEPTH:
        measured = [
            kept(
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
    found.figures[caption] = draw(families, args.out / "depth_theory")
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


def looks_linear(args: Args, found: Findings) -> None:
    """Part (d): a looks-linear net's gradients are the same at every input."""
    from experiments.runner import kept

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


PARTS = {"one_dimensional": one_dimensional, "depth": against_depth, "looks_linear": looks_linear}


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the tables and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.files import write_json
    from cnnjax.report.page import write_page
    from cnnjax.training.record import claim
    from experiments.runner import text_table

    use_cache()
    settings = {
        "preset": args.preset,
        "seed": args.seed,
        "statistics": "frozen",
        **{
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(chosen).items()
        },
    }
    claim(args.out, "experiment", {**settings, "parts": list(args.parts)}, growing=("parts",))
    found = Findings()
    for part in args.parts:
        PARTS[part](args, found)

    write_json(args.out / "summary.json", {"results": found.results})
    page = args.out / "report.html"
    title, text = str(__doc__).split("\n\n", 1)
    drawn = {caption: paths["svg"] for caption, paths in found.figures.items()}
    write_page(page, title, text, drawn, found.tables, args.out / "config.json")
    for caption, (header, rows) in found.tables.items():
        print(f"\n{text_table(header, rows)}\n{caption}")
    print()
    drawings = [path for paths in found.figures.values() for path in paths.values()]
    for path in (*drawings, args.out / "summary.json", page):
        print(path)


if __name__ == "__main__":
    with one_line_errors("shattered_gradients"):
        main(tyro.cli(Args, description=__doc__, prog="python -m experiments.shattered_gradients"))
