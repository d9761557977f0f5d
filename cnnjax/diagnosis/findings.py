"""What is wrong, where, why, and what cures it: rules over an examination.

A rule speaks of a fault, not of a preference, and its bounds are wide: networks that train well have none.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnnjax.diagnosis.examine import Examination
from cnnjax.diagnosis.vitals import HUGE, TINY
from cnnjax.probes.theory import BATCH_NORM_GROWTH

RECTIFIERS = ("relu", "relu6", "squared relu", "leaky relu")
LARGE, SMALL = 5.0, 0.2
"""Bounds of a layer's gain, which is 1.41 for He et al.'s weights and 1 for Glorot's or LeCun's."""
RATE = 0.3
"""Median over layers of |update| / |weight| from which on a rate is too high."""
DECADES = 2.0
"""Powers of ten over depth by which relative gradients may differ."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        what: what is wrong, in one sentence.
        where: the layers, parameters or other parts that it is found in.
        cause: why.
        cure: what to do.
    """

    what: str
    where: tuple[str, ...]
    cause: str
    cure: str


def findings(found: Examination, takes_logits: bool) -> list[Finding]:
    """All faults, those of the data first. `takes_logits`: the loss is the cross-entropy of logits."""
    return [finding for rule in RULES for finding in rule(found, takes_logits)]


def some(names: Sequence[str], most: int = 3) -> str:
    """The first and last of many names."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)} layers)"


def _labels(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    if found.labels is None or found.classes is None or not takes_logits:
        return
    least, largest = found.labels
    if least < 0 or largest >= found.classes:
        shifted = largest == found.classes and least >= 1
        yield Finding(
            f"labels go from {least} to {largest}, but the {found.classes} outputs are classes 0 to "
            f"{found.classes - 1}",
            ("labels",),
            "they are counted from 1"
            if shifted
            else "the classifier has too few outputs, or labels are wrong",
            "subtract 1" if shifted else f"give the classifier {largest + 1} outputs, or correct the labels",
        )


def _inputs(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    mean, std = found.inputs
    if np.isnan(mean):
        return
    if not np.isfinite(std):
        yield Finding("inputs are not finite", ("inputs",), "the data has NaN or infinity", "clean the data")
    elif std == 0 or std > 10 or abs(mean) > 4 * std or std < 0.02:
        yield Finding(
            f"inputs have mean {mean:.3g} and standard deviation {std:.3g}",
            ("inputs",),
            "they are not normalised",
            "subtract their mean and divide by their standard deviation",
        )


def _outputs(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    outputs = np.asarray(found.first.outputs, np.float64) if found.classes else np.zeros((0, 1))
    if takes_logits and outputs.size and found.classes and found.classes > 1:
        sums = outputs.sum(-1)
        if outputs.min() >= 0 and np.allclose(sums, 1, atol=1e-2):
            yield Finding(
                "outputs are probabilities, but the cross-entropy takes logits",
                ("outputs",),
                "a softmax is applied twice, which bounds the gradient and the loss from below",
                "return the logits, without softmax",
            )


def _mixing(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    if found.mixes:
        yield Finding(
            "in evaluation a sample's output depends on the other samples of its batch",
            ("outputs",),
            "something is computed over the batch axis: a mean, a normalisation, or a wrong reshape",
            "keep axis 0 apart in every operation; BatchNorm must use its running averages in evaluation",
        )


def _not_finite(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    bad = [n for n, rms in zip(_names(found), found.first.layers.rms, strict=True) if not np.isfinite(rms)]
    if bad:
        yield Finding(
            f"activations are not finite from {bad[0]} on",
            tuple(bad),
            "numbers overflow, or the weights or inputs are not finite",
            "look at the layer before it: smaller weights, a normalisation, or a wider type",
        )


def _dead(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    for name, activation, flat, weight in zip(
        _names(found), _activations(found), found.first.flat, found.first.layers.weight_norm, strict=True
    ):
        if activation in RECTIFIERS and flat > 0.98:
            yield Finding(
                f"{name} is dead: {_percent(flat)} of its response is below the {activation}'s threshold",
                (name,),
                "its biases are too low or its weights 0, so nothing passes and no gradient comes back"
                if weight > 0
                else "its weights are 0",
                "initialise its weights at random and its biases as 0; lower the rate if it died in training",
            )
        elif activation not in (*RECTIFIERS, "identity", "other", "") and flat > 0.9:
            yield Finding(
                f"{name} is saturated: {_percent(flat)} of its response is where the {activation} is flat",
                (name,),
                "its inputs to the activation are too large",
                "smaller weights, or a normalisation before the activation",
            )


def _cut_off(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    rms, names = found.first.gradient_rms, _names(found)
    reached = rms[np.nan_to_num(rms) > 0]
    if not found.untouched or (len(reached) and reached.min() < 1e-20):
        return  # gradients that vanish on their way are another rule's
    dead = [one.where[0] for one in _dead(found, takes_logits)]
    if dead:
        return  # nothing comes back through it, and nothing enters the layers after it
    layers = [i for i, path in enumerate(found.parameters) if path in found.untouched and rms[i] == 0]
    others = [path for path in found.untouched if path not in found.parameters]
    if layers:
        where = tuple(names[i] for i in layers)
        yield Finding(
            f"no gradient reaches {some(where)}",
            where,
            f"the loss does not depend on {where[-1]}, or only through what stops gradients",
            "use its output, and look for stop_gradient, argmax, rounding or a factor of 0",
        )
    elif others:
        yield Finding(
            f"no gradient reaches the parameters {', '.join(others[:3])}"
            + (" ..." if len(others) > 3 else ""),
            tuple(others),
            "the loss does not depend on them",
            "use them, or take them out",
        )


def _biases(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    useless = tuple(
        name
        for name, relative in zip(_names(found), found.bias_gradients, strict=True)
        if relative < 1e-4  # infinite where there is no such bias
    )
    if useless:
        yield Finding(
            f"the bias of {some(useless)} comes before a normalisation that subtracts the mean",
            useless,
            "the normalisation takes away what the bias adds, so no gradient reaches it",
            "use_bias=False: the normalisation has a bias of its own",
        )


def _weights(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    first, names = found.first, _names(found)
    own = np.where(found.looked_up, np.nan, first.gain)
    gain = own.copy()  # with large inputs small weights of the first layer are right
    gain[0] *= max(1.0, first.input_rms) if np.isfinite(first.input_rms) else 1.0
    large = [i for i in range(len(names)) if own[i] > LARGE]
    free = [i for i in range(len(names)) if not first.normalized[i] and own[i] > 0]
    small = [i for i in free if gain[i] < SMALL]
    if found.has_shortcuts and len(small) < len(free) / 2:
        small = []  # a residual branch may begin as small as it likes
    if small == [len(names) - 1]:
        small = []  # so may a classifier
    for which, adjective, comparative, cure in (
        (large, "large", "larger", "divide"),
        (small, "small", "smaller", "multiply"),
    ):
        if which:
            typical = float(np.exp(np.log(own[which]).mean()))
            times = typical / np.sqrt(2) if which is large else np.sqrt(2) / typical
            where = tuple(names[i] for i in which)
            hidden = which is large and all(first.normalized[i] for i in which)
            yield Finding(
                f"weights are too {adjective} in {some(where)}: {times:.2g} times {comparative} than He et "
                "al.'s",
                where,
                f"their fan-in times mean square is {typical**2:.3g}, where 2 (ReLU) or 1 keeps signals alive"
                + (
                    "; the normalisation hides it, but the rate acts as if it were far smaller"
                    if hidden
                    else ""
                ),
                f"{cure} them by {times:.2g}, or initialise by He et al. (nn.initializers.he_normal)",
            )


def _gradients(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    first, names = found.first, _names(found)
    relative = first.relative_gradient
    known = [i for i in range(len(names)) if np.isfinite(relative[i]) and relative[i] > 0]
    if len(names) < 4 or len(known) < 4:
        return
    third = max(1, len(known) // 3)
    begin, end = (float(np.median(np.log10(relative[part]))) for part in (known[:third], known[-third:]))
    lost = known[0] > 2 and not found.has_shortcuts  # underflow on the way
    if abs(begin - end) < DECADES and not lost:
        return
    where = (names[0], names[known[-1]])
    direction = "vanish" if begin < end or lost else "explode"
    size = "to 0" if lost else f"by 10^{begin - end:.1f}"
    cause, cure = _why(found, direction)
    yield Finding(
        f"gradients {direction}: relative to the weights they change {size} from {where[1]} to {where[0]}",
        where,
        cause,
        cure,
    )


def _why(found: Examination, direction: str) -> tuple[str, str]:
    """Cause and cure of gradients that change over depth, from the factor of each layer."""
    first = found.first
    activations = [one for one in _activations(found)[:-1] if one not in ("identity", "")]
    activation = max(set(activations), key=activations.count) if activations else "identity"
    slope, gain = float(np.nanmedian(first.slope[:-1])), float(np.nanmedian(first.gain[:-1]))
    normalized = bool(np.median(first.normalized[:-1]))
    shortcuts = found.has_shortcuts
    if shortcuts and not normalized and direction == "explode":
        return (
            f"each of the {len(first.layers.blocks)} blocks adds its branch's gradient to the shortcut's",
            "BatchNorm in the branches, or branches that begin as 0 (Fixup, SkipInit)",
        )
    if normalized and direction == "explode" and not shortcuts:
        return (
            "every normalised layer multiplies the gradient's norm on its way back, by "
            f"{BATCH_NORM_GROWTH:.2f} for BatchNorm and ReLU in theory",
            "shortcuts (a residual net); or a warm-up, for after a few steps the growth is gone",
        )
    if activation not in RECTIFIERS and slope < 0.3:
        return (
            f"the {activation}'s slope: its mean square is {slope:.2g}, and with the weights each layer "
            f"multiplies the squared gradient by {slope * gain**2:.2g}",
            "BatchNorm or shortcuts cure it, or ReLU with He et al.'s weights",
        )
    return (
        f"each layer multiplies the squared gradient by {slope * gain**2:.2g}: the mean square of the "
        f"{activation}'s slope, {slope:.2g}, times fan-in times the weights' mean square, {gain**2:.2g}",
        "weights of variance 2 / fan-in for ReLU (1 / fan-in for tanh), BatchNorm, or shortcuts",
    )


def _signals(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    first, names = found.first, _names(found)
    rms = first.layers.rms
    if not np.all(np.isfinite(rms)) or min(rms) <= 0 or len(rms) < 2:
        return
    ratio = float(np.log10(rms[-1] / rms[0]))
    if abs(ratio) > 3:
        word = "grow" if ratio > 0 else "shrink"
        yield Finding(
            f"activations {word} by 10^{ratio:.1f} from {names[0]} to {names[-1]}",
            (names[0], names[-1]),
            "each layer multiplies them by about "
            f"{10 ** (ratio / (len(rms) - 1)):.2g}, and nothing normalises them",
            "He et al.'s weights, or a normalisation",
        )
    cosine = first.cosine[-2:][0]
    if cosine > 1 - 1e-3 and not any(np.isnan(first.cosine[-2:])):
        layer = names[int(np.argmax(first.cosine > 1 - 1e-3))]
        yield Finding(
            f"from {layer} on all inputs look alike: the cosine between two of them is {cosine:.5f}",
            (layer,),
            "every layer takes away differences, as with saturated units or large biases",
            "BatchNorm, which subtracts what inputs have in common, or smaller biases",
        )


def _rate(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    first = found.first
    ratio = float(np.nanmedian(first.update_ratio)) if not np.all(np.isnan(first.update_ratio)) else 0.0
    end = found.losses[-1]
    rises = np.isfinite(found.losses[0]) and (
        not np.isfinite(end) or end > 2 * max(found.losses[0], found.chance)
    )
    where = ("optimizer",)
    if ratio > RATE or rises:
        bound = f" Its bound 2 / sharpness is {2 / found.sharpness:.2g}." if found.sharpness > 0 else ""
        what = (
            f"the first step changes weights by {ratio:.2g} times their own size"
            if ratio > RATE
            else f"the loss of one batch rises from {found.losses[0]:.3g} to {end:.3g}"
        )
        cause = f"the learning rate is too high: {first.effective_rate:.3g} along the gradient." + bound
        yield Finding(what, where, cause, f"a rate {max(10, ratio / 0.01):.0f} times lower, or a warm-up")
    elif 0 < ratio < 1e-6:
        yield Finding(
            f"the first step changes weights by {ratio:.1g} of their size",
            where,
            "the learning rate is too low for gradients this small",
            "a higher rate, or first cure the gradients",
        )


def _by_heart(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    begin, end = found.losses[0], found.losses[-1]
    start = min(begin, found.chance) if found.classes else begin
    if np.isfinite(end) and _steps(found) >= 50 and end > 0.95 * start:
        yield Finding(
            f"one batch is not learnt by heart: its loss is {end:.3g} after {_steps(found)} steps on it, at "
            f"first {begin:.3g}",
            ("training",),
            "the causes above, if any; else labels that do not fit the loss, or a rate that is far too low",
            "try the cures above one by one until this batch is learnt",
        )


def _precision(found: Examination, takes_logits: bool) -> Iterator[Finding]:
    first = found.first
    for kind in TINY:
        inside = [i for i, dtype in enumerate(found.dtypes) if dtype == kind]
        lost = [i for i in inside if _is_lost(found, i, kind)]
        over = [i for i in inside if first.largest[i] > HUGE[kind] / 8]
        if lost:
            names = tuple(_names(found)[i] for i in lost)
            yield Finding(
                f"gradients underflow in {kind} in {some(names)}",
                names,
                f"{_percent(max(first.zeros[i] for i in lost))} of a weight's gradient is 0; numbers below "
                f"{TINY[kind]:.1g} become 0",
                "multiply the loss by 2^10 or more and divide the gradients by it, or take bfloat16",
            )
        if over:
            names = tuple(_names(found)[i] for i in over)
            yield Finding(
                f"activations come near {kind}'s largest number in {some(names)}",
                names,
                f"the largest is {max(first.largest[i] for i in over):.3g} of {HUGE[kind]:.3g}",
                "smaller weights or a normalisation, or bfloat16",
            )


def _is_lost(found: Examination, layer: int, kind: str) -> bool:
    rms, zeros = found.first.gradient_rms[layer], found.first.zeros[layer]
    return bool(rms < 32 * TINY[kind] or (zeros > 0.3 and found.first.flat[layer] < 0.9))


RULES = (
    _labels, _inputs, _outputs, _mixing, _not_finite, _precision, _dead, _cut_off, _biases, _weights,
    _gradients, _signals, _rate, _by_heart,
)  # fmt: skip


def _names(found: Examination) -> Sequence[str]:
    return found.first.layers.layers


def _activations(found: Examination) -> Sequence[str]:
    return found.first.layers.activations


def _steps(found: Examination) -> int:
    return len(found.losses) - 1


def _percent(share: Any) -> str:
    return f"{100 * float(share):.0f} %"
