"""What a layer costs the gradient: rows, table and figure of the stacks at initialisation."""

import functools
from pathlib import Path

import numpy as np

from cnnjax.report.activations import gradients_in_stacks

from ..runner import Findings, cached_npz, spread
from .settings import ACTIVATIONS, PLACES, Activation, Preset
from .stack import expected_factors, gradient_norms, mean_factor


def lost_in_stacks(chosen: Preset, out: Path, found: Findings) -> None:
    """Measure every activation with BatchNorm in every place, once."""

    activations = [ACTIVATIONS[name] for name in chosen.activations]

    def measure(activation: Activation) -> dict[str, np.ndarray]:
        sizes = chosen.depth, chosen.width, chosen.seeds
        return {place: gradient_norms(activation, place, *sizes) for place in PLACES}

    arrays = {
        one.name: cached_npz(
            out / "stacks" / f"{one.name}_{chosen.seeds}_seeds.npz", functools.partial(measure, one)
        )
        for one in activations
    }
    rows, panels = found.others.setdefault("factor_per_layer", []), {}
    cells: dict[str, list[str]] = {activation.title: [activation.title] for activation in activations}
    for place in PLACES:
        panels[place] = {}
        for activation in activations:
            norms = arrays[activation.name][place]
            factors = expected_factors(activation, place, chosen.depth)
            expected = float(np.exp(np.log(factors).mean()))
            below = np.append(np.cumprod(factors[::-1])[::-1], 1.0)
            panels[place][activation.title] = norms / norms[:, -1:], below
            measured = mean_factor(norms)
            rows += [
                {"activation": activation.name, "place": place, "seed": seed, "expected": round(expected, 6)}
                | {"factor": round(float(factor), 6)}
                for seed, factor in enumerate(measured)
            ]
            cells[activation.title] += [f"{spread(measured.tolist())['mean']:.3f}", f"{expected:.3f}"]
    header = ["activation", *(text for place in PLACES for text in (place, "theory"))]
    caption = (
        f"Factor of the gradient's norm per layer on the way back through {chosen.depth} dense layers of "
        f"{chosen.width} units at initialisation, geometric mean over layers; theory is for wide layers and "
        "large batches."
    )
    found.tables[caption] = (header, list(cells.values()))
    caption = "Norm of the gradient by each layer's output, relative to the last layer's; dashed: theory."
    found.figures[caption] = gradients_in_stacks(panels, out / "gradients")
