"""Gradient norms: what comes back to each layer of a deep network, at initialisation and in the first steps?

He et al. 2015 observe that the gradients of plain nets with BatchNorm "exhibit healthy norms" and so cannot
be why depth fails. Mean-field theory (Yang et al. 2019) says that at initialisation they grow by 1.21 in norm
with every BatchNorm-ReLU layer on the way back, 30,000-fold in 54 layers. Both are right: the explosion is
there at step 0, and gone after a single step.

`init` measures families of nets as they are initialised, with theory beside them; `training` measures plain
and residual nets inside their training steps, 0, 1, 2, 5, 10, 20, ...
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError, one_line_errors


@dataclasses.dataclass(frozen=True)
class Family:
    """Nets that differ in depth only."""

    template: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def model(self, depth: int) -> str:
        """Its name for `build`."""
        return f"{self.template}{depth}"


FAMILIES = {
    "plain": Family("plain"),
    "resnet": Family("resnet"),
    "preresnet": Family("preresnet"),
    "plain, no norm": Family("plain", {"norm": "none"}),
    "resnet, no norm": Family("resnet", {"norm": "none"}),
    "plain, tanh, no norm": Family("plain", {"norm": "none", "activation": "tanh", "kernel_init": "glorot"}),
    "plain, sigmoid, no norm": Family(
        "plain", {"norm": "none", "activation": "sigmoid", "kernel_init": "glorot"}
    ),
}
Trained = Literal["plain", "resnet"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is measured, and on what; initial nets see whole images, trained ones images `downsample`d."""

    data: str
    downsample: int
    width: int
    batch_size: int
    depths: tuple[int, ...]
    seeds: int
    steps: int


PRESETS = {
    "quick": Preset("fashion_mini", 2, 16, 64, (20, 56), 2, 51),
    "paper": Preset("cifar10", 1, 16, 128, (20, 32, 44, 56, 110), 3, 64_000),
    "smoke": Preset("synthetic", 2, 2, 16, (8,), 1, 3),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure the gradients of every layer, at initialisation and along training."""

    preset: Literal["quick", "paper", "smoke"] = "quick"
    """quick: minutes on a laptop; paper: CIFAR-10, 64,000 steps; smoke: seconds."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Families to measure at initialisation."""
    trained: tuple[Trained, ...] = ("plain", "resnet")
    """Families to measure along training."""
    depths: tuple[int, ...] | None = None
    """Depths, each 6n + 2; quick has 20 and 56."""
    seeds: int | None = None
    """How many seeds; they are 0, 1, 2, ..."""
    steps: int | None = None
    """Gradient steps of each run; 0 trains nothing."""
    data: str | None = None
    """Data set; quick has fashion_mini (embedded), paper has cifar10, smoke has synthetic."""
    data_dir: Path | None = None
    """Folder that holds the data set's official archives."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/gradient_norms")
    """Folder for the runs, the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset, with what the command line says instead; raises UserError for what cannot be."""
        if unknown := [name for name in self.families if name not in FAMILIES]:
            raise UserError(f"--families {unknown[0]!r}: must be of {'; '.join(FAMILIES)}")
        given = {name: getattr(self, name) for name in ("depths", "seeds", "steps", "data")}
        chosen = dataclasses.replace(
            PRESETS[self.preset], **{name: value for name, value in given.items() if value is not None}
        )
        if chosen.seeds < 1:
            raise UserError(f"--seeds {chosen.seeds}: must be at least 1")
        if chosen.steps < 0:
            raise UserError(f"--steps {chosen.steps}: must not be negative")
        return chosen


def configs(chosen: Preset, trained: tuple[Trained, ...], flips: bool) -> dict[str, Config]:
    """Run to Config for the nets to train: He et al.'s optimiser at its full rate from the first step."""
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


def initial(model: Any, images: Any, labels: Any, seeds: int) -> dict[str, Any]:
    """Statistics of `seeds` initialisations, [seed, layer] by field, on one batch; and the layers' names."""
    import jax
    import numpy as np

    from cnnjax.probes import layer_statistics

    initialize = jax.jit(lambda key: model.lazy_init(key, images[:1], train=False))
    measure = jax.jit(lambda variables: layer_statistics(model, variables, (images, labels)))
    found = [measure(initialize(jax.random.key(seed))).arrays() for seed in range(seeds)]
    names = ("layers", "blocks")
    arrays = {name: np.stack([one[name] for one in found]) for name in found[0] if name not in names}
    return {**arrays, **{name: np.array(found[0][name]) for name in names}}


def growth(norms: list[float]) -> float:
    """Factor of the gradient's norm per layer on the way back: a fit of its logarithm."""
    import numpy as np

    positive = [norm for norm in norms if norm > 0]  # 0 is an underflow: a sigmoid net's first layers
    return float(np.exp(-np.polyfit(range(len(positive)), np.log(positive), 1)[0]))


def row(model: str, family: str, depth: int, seed: int, step: int, arrays: Mapping[str, Any]) -> dict:
    """A row of the summary: lists over layers in the order of their calls, and what follows from them."""
    blocks: dict[str, list[int]] = {}  # the convolutions of each stage
    for index, name in enumerate(arrays["layers"].tolist()):
        if name.startswith("stage"):
            blocks.setdefault(name.split("_")[0], []).append(index)
    weight_gradient, returned = arrays["weight_gradient_norm"], arrays["activation_gradient_norm"]
    convolutions = [index for stage in blocks.values() for index in stage]
    return {
        "model": model,
        "family": family,
        "depth": depth,
        "seed": seed,
        "step": step,
        "first_to_last": float(weight_gradient[0] / weight_gradient[convolutions[-1]]),
        "slope": growth(returned[convolutions].tolist()),
        "slope_by_stage": [growth(returned[stage].tolist()) for stage in blocks.values()],
        **{
            name: [None if value != value else value for value in values.tolist()]
            for name, values in arrays.items()
        },
    }


def theory_of(family: str, values: Any) -> tuple[str, Any] | None:
    """What theory says of the gradient by z, anchored at the last convolution: a label and values [layer]."""
    import numpy as np

    from cnnjax.probes import theory

    factors = {
        "plain": ("1.211 per layer", theory.BATCH_NORM_GROWTH),
        "plain, no norm": ("1 per layer", 1.0),
        "plain, tanh, no norm": ("mean field", theory.mean_field("tanh", 1.0).growth),
        "plain, sigmoid, no norm": ("mean field", theory.mean_field("sigmoid", 1.0).growth),
    }
    if family not in factors:
        return None
    name, factor = factors[family]
    last = float(np.exp(np.log(values).mean(0))[-2])  # the last layer is the classifier
    convolutions = values.shape[1] - 1
    return name, last * factor ** np.arange(convolutions - 1, -1, -1.0)


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the table and the paths."""
    chosen = args.chosen  # what cannot be is said before jax is imported

    import jax.numpy as jnp
    import numpy as np

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.data.augment import normalizer
    from cnnjax.data.batches import batch_indices
    from cnnjax.models import build
    from cnnjax.probes import LayerProbe
    from cnnjax.report.depth import against_depth, heat_map, microscope
    from cnnjax.training.record import claim
    from experiments.runner import Findings, kept, run_all

    use_cache()
    data = load(chosen.data, args.data_dir)
    settings = {"preset": args.preset, **dataclasses.asdict(chosen), "families": list(args.families)}
    settings |= {"depths": list(chosen.depths), "trained": list(args.trained)}
    claim(args.out, "experiment", settings, growing=("families", "trained", "depths"))
    normalize = normalizer(data.train_images, "pixel_mean")
    indices = batch_indices(0, 0, chosen.batch_size, len(data.train_labels))
    images = normalize(jnp.asarray(np.asarray(data.train_images)[indices]))
    labels = jnp.asarray(data.train_labels[indices])

    results, rows = [], []
    curves: dict[str, dict[str, Any]] = {}
    overlays: dict[str, tuple[str, Any]] = {}
    for family in args.families:
        curves[family] = {}
        for depth in chosen.depths:
            model = FAMILIES[family].model(depth)
            options = {"width": chosen.width, "num_classes": data.classes, "loop": "scan"}
            arrays = kept(
                args.out / "init" / f"{family.replace(', ', '_').replace(' ', '_')}{depth}.npz",
                lambda family=family, model=model, options=options: initial(
                    build(model, **options, **FAMILIES[family].options), images, labels, chosen.seeds
                ),
            )
            by_seed = [
                {
                    name: values if name in ("layers", "blocks") else values[seed]
                    for name, values in arrays.items()
                }
                for seed in range(chosen.seeds)
            ]
            found = [row(model, family, depth, seed, 0, one) for seed, one in enumerate(by_seed)]
            results += [{"part": "init", **one} for one in found]
            rows.append([family, str(depth), "init", *_numbers(found)])
            curves[family][f"{depth} layers"] = arrays["activation_gradient_norm"]
            if overlay := theory_of(family, arrays["activation_gradient_norm"]):
                overlays[family] = overlay

    figures = {
        "Norm of the gradient by each layer's output at initialisation; bands over seeds; dashed: theory.": (
            against_depth(curves, overlays, args.out / "init_depth", "gradient by output")
        )
    }
    if chosen.steps:
        runs = configs(chosen, args.trained, spec(chosen.data).flips)
        run_all(runs, args.out, data, probes=LayerProbe())
        measured: dict[str, dict[int, dict[str, Any]]] = {}
        for name, config in runs.items():
            measured[name] = {
                int(path.stem.removeprefix("step_")): kept(path, dict)
                for path in (args.out / name / "probes").iterdir()
            }
            family = next(family for family in args.trained if config.model.startswith(family))
            depth = int(config.model.removeprefix(family))
            for step, arrays in sorted(measured[name].items()):
                results.append(
                    {"part": "training", **row(config.model, family, depth, config.seed, step, arrays)}
                )
        trained = [one for one in results if one["part"] == "training"]
        for model, step in dict.fromkeys((one["model"], one["step"]) for one in trained):
            found = [one for one in trained if (one["model"], one["step"]) == (model, step)]
            rows.append([found[0]["family"], str(found[0]["depth"]), f"step {step}", *_numbers(found)])
        deepest = max(chosen.depths)

        def shown(field: str, steps: Any = None) -> dict[str, dict[int, Any]]:
            return {
                f"{family}{deepest}": {
                    step: arrays[field][:-1] if field == "response_std" else arrays[field]
                    for step, arrays in measured[f"{family}{deepest}_seed0"].items()
                    if steps is None or step in steps
                }
                for family in args.trained
            }

        first_steps = (0, 1, 2, 5, 10, 20)
        figures["The first steps: norm of the weight gradient, seed 0."] = microscope(
            shown("weight_gradient_norm", first_steps), args.out / "microscope", "weight gradient"
        )
        figures["Norm of the weight gradient over depth and steps, seed 0."] = heat_map(
            shown("weight_gradient_norm"), args.out / "heat_map", "weight gradient"
        )
        figures["Standard deviation of the responses after BatchNorm (He et al. 2015, figure 7)."] = (
            microscope(shown("response_std"), args.out / "responses", "response std", logarithmic=False)
        )

    header = ["family", "depth", "at", "first / last", "slope", "stage 1", "stage 2", "stage 3"]
    caption = (
        "Ratio of the weight gradients' norms of the first and the last convolution, and the factor of the "
        "gradient by the output per convolution on the way back; geometric means over seeds."
    )
    Findings(results, figures, {caption: (header, rows)}).write(args.out, str(__doc__))


def _numbers(found: list[dict[str, Any]]) -> list[str]:
    """Geometric means over seeds, for the table."""
    import numpy as np

    def mean(values: list[float]) -> float:
        return float(np.exp(np.mean(np.log(values))))

    slopes = [mean(list(factors)) for factors in zip(*(one["slope_by_stage"] for one in found), strict=True)]
    slopes = [mean([one["slope"] for one in found]), *slopes]
    return [f"{mean([one['first_to_last'] for one in found]):.3g}", *(f"{factor:.3f}" for factor in slopes)]


if __name__ == "__main__":
    with one_line_errors("gradient_norms"):
        main(tyro.cli(Args, description=__doc__, prog="python -m experiments.gradient_norms"))
