"""The report of a diagnosis: on one page, as JSON, as a figure."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from cnnjax.diagnosis.examine import Examination, Instruments
from cnnjax.diagnosis.expected import expectations
from cnnjax.diagnosis.features import features
from cnnjax.diagnosis.findings import Finding, findings
from cnnjax.diagnosis.verdict import Verdict, judge
from cnnjax.errors import UserError
from cnnjax.probes.subject import Losses, cross_entropy, unpack
from cnnjax.terminal import Page, Printable, Renderable, table

COLUMNS = {
    "rms": ("z", "root mean square of the output"),
    "cosine": ("alike", "mean cosine of two inputs' responses"),
    "dead": ("dead", "share of channels that are nowhere positive"),
    "flat": ("flat", "share of the response where the activation is flat"),
    "gradient": ("grad z", "root mean square of the gradient by the output"),
    "weight_gradient": ("|g|/|W|", "norm of the weight's gradient over the weight's"),
    "update": ("|dW|/|W|", "norm of the first update over the weight's"),
    "signal": ("signal", "n |mean g|^2 / mean |g|^2 over samples: 1 is noise, n is agreement"),
    "shattering": ("cos g", "mean cosine of two samples' gradients"),
    "bfloat16": ("bf16 0", "share of the weight's gradient that bfloat16 makes 0"),
    "float16": ("f16 0", "share of the weight's gradient that float16 makes 0"),
}
"""The statistics over depth: the column's head, and what it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis(Printable):
    """What was found.

    Attributes:
        verdict: whether the network will train.
        findings: its faults; none for a healthy network.
        examination: all measurements.
    """

    verdict: Verdict
    findings: list[Finding]
    examination: Examination

    @property
    def layers(self) -> tuple[str, ...]:
        """Their names, in the order of the calls."""
        return self.examination.first.layers.layers

    @functools.cached_property
    def features(self) -> dict[str, float]:
        """What the verdict goes by."""
        return features(self.examination)

    @functools.cached_property
    def statistics(self) -> dict[str, Any]:
        """Arrays [layer] by name (`COLUMNS`)."""
        first, samples = self.examination.first, self.examination.samples
        of_samples = samples and samples.by_weights

        def by_layer(values: Any) -> np.ndarray:
            by_name = dict(zip(of_samples.layers, values, strict=True)) if of_samples else {}
            return np.array([by_name.get(name, np.nan) for name in self.examination.weights])

        return {
            "rms": first.layers.rms,
            "cosine": first.cosine,
            "dead": first.layers.dead_fraction,
            "flat": first.flat,
            "gradient": first.gradient_rms,
            "weight_gradient": first.relative_gradient,
            "update": first.update_ratio,
            "signal": by_layer(of_samples and of_samples.alignment),
            "shattering": by_layer(of_samples and of_samples.mean_cosine),
            "bfloat16": first.underflow["bfloat16"],
            "float16": first.underflow["float16"],
        }

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON; NaN is None."""
        found = self.examination
        values = found.singular_values
        samples = found.samples
        whole = {
            "loss": found.losses[0],
            "chance": found.chance,
            "losses": found.losses,
            "sharpness": found.sharpness,
            "effective_rate": found.first.effective_rate,
            "two_over_rate": 2 / found.first.effective_rate,
            "singular_values": [] if values is None else np.median(values, 0),
            "noise_scale": None if samples is None else samples.by_weights.noise_scale[-1],
            "input_gradient_cosine": None if samples is None else samples.by_inputs.mean_cosine,
            "input_gradient_effective_rank": None if samples is None else samples.by_inputs.effective_rank,
            "inputs": dict(zip(("mean", "std"), found.inputs, strict=True)),
        }
        return _plain(
            {
                "verdict": self.verdict.word,
                "probability": self.verdict.probability,
                "hit_rate": dict(zip(("right", "of"), self.verdict.hits, strict=True)),
                "findings": [dataclasses.asdict(finding) for finding in self.findings],
                "layers": list(self.layers),
                "activations": list(found.first.layers.activations),
                "statistics": self.statistics,
                "expected": [dataclasses.asdict(one) for one in expectations(found)],
                "blocks": list(found.first.layers.blocks),
                "skips": found.skips,
                "network": whole,
                "features": self.features,
                "not_measured": found.failed,
            }
        )

    def figure(self, path: Path | str = "diagnosis.png") -> Path:
        """Draw the statistics over depth, and the loss of the one batch, as PNG and SVG; returns the PNG."""
        from cnnjax.report.health import over_depth

        found = self.examination
        skips = found.skips if found.has_shortcuts else np.zeros(0)
        title = f"{self.verdict.word}; " + (self.findings[0].what if self.findings else "no finding")
        return over_depth(self.statistics, found.losses, found.chance, skips, title, Path(path))["png"]

    def __rich__(self) -> Page:
        """The verdict, its reasons, and the statistics."""
        return Page(*self._lines())

    def __repr__(self) -> str:
        return f"Diagnosis: {self.verdict.word}, {len(self.findings)} findings"

    def _lines(self) -> list[Renderable]:
        found = self.examination
        lines: list[Renderable] = [f"verdict: {self.verdict}", ""]
        for number, finding in enumerate(self.findings, 1):
            lines += [
                f"{number}. {finding.what}",
                f"   cause: {finding.cause}",
                f"   cure: {finding.cure}",
            ]
        if not self.findings:
            lines.append("no finding")
        lines += ["", *self._table(), "", *self._whole()]
        expected = [f"  {one}" for one in expectations(found)]
        lines += ["theory:", *expected] if expected else []
        lines += [f"not measured: {name} ({why})" for name, why in found.failed.items()]
        return lines

    def _table(self, most: int = 14) -> list[Renderable]:
        """The statistics of some layers: the first ones, the last ones, and evenly between."""
        number = len(self.layers)
        rows = sorted(set(np.linspace(0, number - 1, min(most, number)).round().astype(int).tolist()))
        header = ("layer", *(head for head, _ in COLUMNS.values()))
        body = [(self.layers[row], *(_short(self.statistics[name][row]) for name in COLUMNS)) for row in rows]
        title = f"{len(rows)} of {number} layers" if len(rows) < number else f"{number} layers"
        return [f"{title}, in the order of the calls", table(body, header)]

    def _whole(self) -> list[str]:
        found = self.examination
        steps, losses = len(found.losses) - 1, found.losses
        rate = found.first.effective_rate
        lines = [
            f"loss {losses[0]:.4g} (chance {found.chance:.4g}); after {steps} steps on this batch "
            f"{losses[-1]:.3g}",
            f"sharpness {found.sharpness:.3g} of the Gauss-Newton matrix; 2 / rate is {2 / rate:.3g}",
        ]
        if found.singular_values is not None:
            middle = np.median(found.singular_values, 0)
            lines.append(f"singular values of the Jacobian by the input: {middle[0]:.3g} to {middle[-1]:.3g}")
        if (samples := found.samples) is not None:
            noise = float(samples.by_weights.noise_scale[-1])
            lines.append(
                f"gradients of single samples: noise scale {noise:.3g} samples; "
                f"by the input, mean cosine {float(samples.by_inputs.mean_cosine):.3f}, effective rank "
                f"{float(samples.by_inputs.effective_rank):.2f} of white noise's"
            )
        if found.has_shortcuts and len(found.skips):
            order = np.argsort(np.abs(np.log(np.maximum(found.skips, 1e-30))))[::-1][:3]
            blocks = [f"{found.first.layers.blocks[i]} {found.skips[i]:.2f}" for i in order]
            lines.append(
                "first layer's gradient if the backward pass takes one block for the identity, relative: "
                + ", ".join(blocks)
            )
        return lines


def diagnose(
    model: Any,
    variables: Any,
    batch: tuple[Any, Any],
    optimizer: optax.GradientTransformation | None = None,
    *,
    loss: Losses = cross_entropy,
    key: jax.Array | None = None,
    steps: int = 50,
) -> Diagnosis:
    """Examine a network on one batch: will it train, and if not, why? Nothing of it is changed.

    Args:
        model: any network (`cnnjax.probes.subject`); it is examined in training mode.
        variables: its parameters, and whatever else it carries; None if it carries them itself.
        batch: inputs [sample, ...] and labels [sample, ...], 2 samples at least; 32 or more are better.
        optimizer: what it will be trained with; by default `optax.sgd(0.1, momentum=0.9)`, He et al.'s.
        loss: of outputs and labels, for each sample.
        key: for dropout.
        steps: of the trial to learn this batch by heart.

    Raises:
        UserError: that is no network, or its variables or the batch do not fit, or have one sample.
    """
    network, variables, batch = unpack(model, variables, batch)
    samples = len(jax.tree.leaves(batch)[0])
    if samples < 2:
        raise UserError("batch: has one sample; give 2 or more, which are compared")
    if steps < 1:
        raise UserError(f"steps={steps}: must be at least 1")
    chosen = optax.sgd(0.1, momentum=0.9) if optimizer is None else optimizer
    if not (hasattr(chosen, "init") and hasattr(chosen, "update")):
        raise UserError(
            f"optimizer={chosen!r}: give an optax.GradientTransformation, such as optax.adam(1e-3)"
        )
    instruments = Instruments(network, loss, lambda rate: chosen)
    opt_state = chosen.init(variables["params"])
    found = instruments.examine(variables, opt_state, batch, key=key, steps=steps)
    return Diagnosis(judge(features(found)), findings(found, loss is cross_entropy), found)


def _plain(value: Any) -> Any:
    """For JSON."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        return [_plain(one) for one in value]
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value
    number = float(value)
    return number if np.isfinite(number) else None


def _short(value: Any) -> str:
    number = float(value)
    if np.isnan(number):
        return ""
    return "0" if number == 0 else f"{number:.3g}" if 1e-3 <= abs(number) < 1e4 else f"{number:.0e}"
