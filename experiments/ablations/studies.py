"""The studies: their arms, and the published differences."""

from collections.abc import Callable
from typing import Any

from cnnjax.config import Config

from .study import Arm, Study


def _both(top1: float, top5: float) -> dict[str, float]:
    return {"test_error": top1, "test_top5_error": top5}


def alexnet(base: Config) -> Study:
    """Krizhevsky et al. 2012. The published numbers are what a part gains; for colours "over 1"."""
    width = base.model_options.get("width", 96)
    half = {"groups": 1, "width": width // 2, "tail_width": width}
    middle = tuple(
        Arm(f"without conv{number}", {"model_options": {"left_out": (number,)}}, {"test_error": 2.0})
        for number in (3, 4, 5)
    )
    return Study(
        "alexnet",
        "Krizhevsky, Sutskever and Hinton 2012, sections 3.2 to 3.4, 4.1 and 7",
        "AlexNet",
        base,
        (
            Arm("without response normalisation", {"model_options": {"lrn": False}}, _both(1.4, 1.2)),
            Arm("pooling without overlap", {"model_options": {"pool_size": 2}}, _both(0.4, 0.3)),
            Arm("without dropout", {"model_options": {"dropout": 0.0}}),
            Arm("without colours", {"colour": 0.0}, {"test_error": 1.0}),
            Arm("one tower, half the kernels", {"model_options": half}, _both(1.7, 1.2)),
            Arm("one tower, all connected", {"model_options": {"groups": 1}}),
            *middle,
        ),
    )


def _whole_stages(base: Config) -> tuple[tuple[int, ...], ...]:
    """One kernel for each stage of 3x3 ones, with their receptive field: 5 for two, 7 for three."""
    return tuple((2 * len(stage) + 1,) for stage in base.model_options["stages"])


def vgg(base: Config) -> Study:
    """Simonyan and Zisserman 2014, section 2.3."""
    return Study(
        "vgg",
        "Simonyan and Zisserman 2014, section 2.3: the argument; no difference is printed",
        "three 3x3",
        base,
        (Arm("one 7x7", {"model_options": {"stages": _whole_stages(base)}}),),
    )


def vgg_5x5(base: Config) -> Study:
    """Simonyan and Zisserman 2014, section 4.1."""
    change = {"model_options": {"stages": _whole_stages(base)}}
    return Study(
        "vgg_5x5",
        "Simonyan and Zisserman 2014, section 4.1: net B, top-1 error of a centre crop",
        "two 3x3",
        base,
        (Arm("one 5x5", change, {"test_error": 7.0}),),
    )


def inception(base: Config) -> Study:
    """Szegedy et al. 2015, sections 3.1 and 3.2. The published 7x7 is the first layer's, too."""
    return Study(
        "inception",
        "Szegedy et al. 2015, Table 3",
        "all factorised",
        base,
        (
            Arm("one 5x5 for two 3x3", {"model_options": {"whole": ("5x5",)}}),
            Arm("one 7x7 for 1x7 and 7x1", {"model_options": {"whole": ("7x7",)}}, _both(1.2, 0.3)),
        ),
    )


def smoothing(base: Config) -> Study:
    """Szegedy et al. 2015, section 7."""
    return Study(
        "smoothing",
        "Szegedy et al. 2015, section 7 (0.2 points), Table 3 (0.3 and 0.2)",
        "labels smoothed by 0.1",
        base,
        (Arm("not smoothed", {"label_smoothing": 0.0}, _both(0.3, 0.2)),),
        calibrated=True,
    )


FACTOR = 4
"""Of batch sizes to the base's."""
RATES: dict[str, Callable[[float], float]] = {
    "linear rate": lambda ratio: ratio,
    "sqrt rate": lambda ratio: ratio**0.5,
    "same rate": lambda _: 1.0,
}
"""A batch's size over the base's to its rate over the base's."""


def batch_size(base: Config) -> Study:
    """Batches a quarter and four times as large, for as many epochs and for as many steps."""
    arms = []
    for size in (base.batch_size // FACTOR, base.batch_size * FACTOR):
        ratio = size / base.batch_size
        for budget, stretch in (("equal epochs", 1 / ratio), ("equal steps", 1.0)):
            for title, rate in RATES.items():
                changes = {
                    "batch_size": size,
                    "learning_rate": base.learning_rate * rate(ratio),
                    **stretched(base, stretch),
                }
                arms.append(Arm(f"{size}, {budget}, {title}", changes))
    source = "linear: Goyal et al. 2017, arXiv 1706.02677; sqrt: Krizhevsky 2014, arXiv 1404.5997"
    return Study("batch_size", source, f"batches of {base.batch_size}", base, tuple(arms))


def stretched(config: Config, factor: float) -> dict[str, Any]:
    """The fields of a Config that count steps, times a factor."""
    every = {
        name: max(1, round(getattr(config, name) * factor))
        for name in ("steps", "evaluate_every", "checkpoint_every")
    }
    boundaries = tuple(round(step * factor) for step in config.boundaries)
    return {**every, "boundaries": boundaries, "warmup_steps": round(config.warmup_steps * factor)}


def resnext(base: Config) -> Study:
    """Xie et al. 2016, table 3: the same parameters and multiply-adds in more and narrower groups.

    In a narrow net groups of fewer than 4 channels are left out.
    """
    published = {(2, 40): 23.0, (4, 24): 22.6, (8, 14): 22.3, (32, 4): 22.2}
    width = base.model_options.get("width", 64)
    arms = tuple(
        Arm(
            f"{c} groups of width {d}",
            {"model_options": {"cardinality": c, "base_width": d}},
            {"test_error": round(error - 23.9, 1)},
        )
        for (c, d), error in published.items()
        if width * d // 64 >= 4
    )
    return Study("resnext", "Xie et al. 2016, Table 3", "1 group of width 64", base, arms)


STUDIES: dict[str, Callable[[Config], Study]] = {
    "alexnet": alexnet,
    "vgg": vgg,
    "vgg_5x5": vgg_5x5,
    "inception": inception,
    "smoothing": smoothing,
    "batch_size": batch_size,
    "resnext": resnext,
}
"""By name: a base's Config to its study."""
