"""Families of nets at initialisation, on one batch of full-size images."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.data.augment import normalizer
from cnnjax.data.batches import batch_indices
from cnnjax.models import build
from cnnjax.probes import layer_statistics
from cnnjax.probes.subject import cross_entropy
from cnnjax.report.depth import against_depth
from cnnjax.training.progress import each

from ..runner import Findings, cached_npz, do, how_many
from ..workers import Job
from .rows import row
from .settings import FAMILIES, Args

LOSS_SCALE = 2.0**64
"""Exact, and keeps gradients that 55 sigmoids have shrunk to 1e-37 within float32's range."""


def initial(model: Any, images: Any, labels: Any, seeds: int) -> dict[str, Any]:
    """Statistics of `seeds` initialisations, [seed, layer] by field, on one batch; and the layers' names."""

    def scaled(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return LOSS_SCALE * cross_entropy(outputs, labels)

    measure = jax.jit(lambda variables: layer_statistics(model, variables, (images, labels), loss=scaled))
    # Weights by many small programs, most of which nets share: one of all of them compiles longer.
    variables = (model.lazy_init(jax.random.key(seed), images[:1], train=False) for seed in range(seeds))
    found = [measure(each).arrays() for each in variables]
    names = ("layers", "blocks", "activations")
    arrays = {name: np.stack([one[name] for one in found]) for name in found[0] if name not in names}
    for name in ("weight_gradient_norm", "activation_gradient_norm"):
        arrays[name] = arrays[name].astype(np.float64) / LOSS_SCALE
    return {**arrays, **{name: np.array(found[0][name]) for name in names}}


def theory_of(family: str, values: np.ndarray) -> tuple[str, np.ndarray] | None:
    """Theory of the gradient by z, anchored at the last convolution: a label and values [layer]."""
    if (said := FAMILIES[family].factor) is None:
        return None
    name, factor = said
    last = float(np.exp(np.log(values[:, -2]).mean()))  # the last layer is the classifier
    convolutions = values.shape[1] - 1
    return name, last * factor() ** np.arange(convolutions - 1, -1, -1.0)


@dataclasses.dataclass(frozen=True)
class Net:
    """A net of a family, whose arrays are kept in `file`."""

    family: str
    depth: int
    file: Path

    @property
    def model(self) -> str:
        """Its name for `build`."""
        return FAMILIES[self.family].model(self.depth)

    def arrays(self, options: Mapping[str, Any], images: Any, labels: Any, seeds: int) -> dict[str, Any]:
        """Statistics of its initialisations, measured once."""

        def measure() -> dict[str, Any]:
            built = build(self.model, **options, **FAMILIES[self.family].options)
            return initial(built, images, labels, seeds)

        return cached_npz(self.file, measure)


def measure_share(nets: Sequence[Net], *measured: Any) -> None:
    """A worker's part: the arrays of some of the nets."""
    for net in each(nets, "initial nets", "net"):
        net.arrays(*measured)


def measure_initial(args: Args, data: Dataset, found: Findings) -> None:
    """Every family at every depth: rows, and norm against depth with theory over it."""
    chosen = args.chosen
    normalize = normalizer(data.train_images, "pixel_mean")
    indices = batch_indices(0, 0, chosen.batch_size, len(data.train_labels))
    images = np.asarray(normalize(jnp.asarray(np.asarray(data.train_images)[indices])))
    labels = np.asarray(data.train_labels[indices])
    options = {"width": chosen.width, "num_classes": data.classes, "loop": "scan"}
    measured = options, images, labels, chosen.seeds
    nets = [
        Net(name, depth, args.out / "init" / f"{name.replace(', ', '_').replace(' ', '_')}{depth}.npz")
        for name in args.families
        for depth in chosen.depths
    ]
    if not all(net.file.exists() for net in nets):
        # Most of the time goes into compiling, which takes one core.
        workers = how_many(args.workers, len(nets))
        shares = [sorted(nets, key=lambda net: net.depth)[number::workers] for number in range(workers)]
        jobs = [
            Job(functools.partial(measure_share, share, *measured), len(share), len(share), len(share))
            for share in shares
        ]
        do(jobs, workers)

    curves: dict[str, dict[str, Any]] = {name: {} for name in args.families}
    overlays: dict[str, tuple[str, Any]] = {}
    for net in nets:
        arrays = net.arrays(*measured)
        for seed in range(chosen.seeds):
            own = {
                field: values if field in ("layers", "blocks", "activations") else values[seed]
                for field, values in arrays.items()
            }
            found.results.append({"part": "init", **row(net.model, net.family, net.depth, seed, 0, own)})
        curves[net.family][net.model] = arrays["activation_gradient_norm"]
        if overlay := theory_of(net.family, arrays["activation_gradient_norm"]):
            overlays[net.family] = overlay
    caption = (
        "Norm of the gradient by each layer's output at initialisation; bands over seeds; dashed: theory."
    )
    found.figures[caption] = against_depth(curves, overlays, args.out / "init_depth", "gradient by output")
