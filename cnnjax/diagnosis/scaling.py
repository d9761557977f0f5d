"""The coordinate check: how sizes move with width or depth, at initialisation and in the first steps.

Yang et al. 2022 (arXiv 2203.03466, appendix D.1): a parametrisation is right for all widths if activations
and their updates neither grow nor shrink with the width after a few steps. In the standard parametrisation
(weights of variance ~ 1 / fan-in, one learning rate for all layers) they grow: of the last layer's output the
update grows in proportion to the width, with SGD and with Adam alike, with Adam also those of hidden layers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.diagnosis.examine import Instruments
from cnnjax.errors import UserError
from cnnjax.network import Network, Variables
from cnnjax.terminal import Page, Printable, table

STEPS = 5
GROWS = 0.3
"""Slopes beyond are called growing or shrinking."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scaling(Printable):
    """Sizes against a field of the network.

    Attributes:
        field: its name, such as "width".
        values: [value], of it.
        parts: names of what was measured: layers, or the first, middle and last one.
        activations: root mean squares of outputs before each step, [value, step, part].
        updates: |update| / |weight| of each step, [value, step, part].
    """

    field: str
    values: tuple[float, ...]
    parts: tuple[str, ...]
    activations: np.ndarray
    updates: np.ndarray

    def slopes(self, sizes: np.ndarray) -> np.ndarray:
        """Of log size against log value, [step, part]."""
        x = np.log(self.values) - np.log(self.values).mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log(sizes)
        return np.tensordot(x, y, 1) / np.sum(x**2)

    def to_json(self) -> dict[str, Any]:
        """Slopes by part, [step]."""
        found = {
            "activation_slopes": self.slopes(self.activations),
            "update_slopes": self.slopes(self.updates),
        }
        return {
            "over": self.field,
            "values": list(self.values),
            "expected": 0.0,
            **{
                name: {
                    part: [float(v) if np.isfinite(v) else None for v in slopes[:, i]]
                    for i, part in enumerate(self.parts)
                }
                for name, slopes in found.items()
            },
        }

    def __rich__(self) -> Page:
        """The slopes in a table, and what they mean."""
        sizes, updates = self.slopes(self.activations), self.slopes(self.updates)
        header = (
            "slopes against " + self.field,
            *(f"step {step}" for step in range(STEPS + 1)),
            "update",
            "",
        )
        rows = []
        for i, part in enumerate(self.parts):
            last = sizes[-1, i]
            word = (
                "" if abs(last) < GROWS else "grows" if last > 0 else "shrinks" if last < 0 else "not finite"
            )
            rows.append((part, *(f"{slope:+.2f}" for slope in sizes[:, i]), f"{updates[0, i]:+.2f}", word))
        values = ", ".join(f"{value:g}" for value in self.values)
        return Page(
            table(rows, header),
            f"{self.field} {values}: exponents of the output's root mean square before each step, and",
            "of the first |update| / |weight|. A parametrisation that fits all widths has 0 (muP). In the",
            "standard one the last layer's output grows, by an exponent of up to 1 after a step; with Adam",
            "those of hidden layers do, too.",
        )


def coordinate_check(
    field: str,
    networks: Mapping[float, tuple[Network, Variables]],
    batch: tuple[Any, Any],
    optimizer: Any,
    loss: Any,
) -> Scaling:
    """Take a few steps with networks that differ in one field.

    Args:
        field: its name.
        networks: by its value, each with its variables.
        batch: inputs and labels.
        optimizer: an `optax.GradientTransformation`, the same for all.
        loss: of outputs and labels, for each sample.

    Raises:
        UserError: there are fewer than two values, or one is not above 0.
    """
    values = tuple(networks)
    if len(values) < 2 or min(values) <= 0:
        raise UserError(f"--over {field}: give two values or more, all above 0")
    found = []
    for network, variables in networks.values():
        instruments = Instruments(network, loss, lambda rate: optimizer)
        opt_state, vitals, names = optimizer.init(variables["params"]), [], ()
        for number in range(STEPS + 1):
            arguments = variables, opt_state, batch, jax.random.key(number), 0.0
            one = instruments.signs(*arguments)
            variables, opt_state, *_ = instruments.step(*arguments)
            vitals.append((one.layers.rms, one.update_ratio))
            names = one.layers.layers
        found.append((names, np.array([rms for rms, _ in vitals]), np.array([ratio for _, ratio in vitals])))
    parts, picks = _parts([names for names, _, _ in found])
    activations = np.stack([rms[:, pick] for (_, rms, _), pick in zip(found, picks, strict=True)])
    updates = np.stack([ratio[:, pick] for (_, _, ratio), pick in zip(found, picks, strict=True)])
    return Scaling(field, values, parts, activations, updates)


def _parts(names: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[list[int]]]:
    """The layers to compare, at most a dozen: all if the networks have the same, else some by their place."""
    if len(set(names)) == 1:
        number = len(names[0])
        rows = sorted(set(np.linspace(0, number - 1, min(12, number)).round().astype(int).tolist()))
        return tuple(names[0][row] for row in rows), [rows] * len(names)
    places = {"first layer": 0.0, "at a quarter": 0.25, "in the middle": 0.5, "at three quarters": 0.75}
    picks = [[*(int(place * (len(one) - 1)) for place in places.values()), len(one) - 1] for one in names]
    return (*places, "last layer"), picks
