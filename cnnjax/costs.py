"""Costs side by side, and the comparisons behind the papers' arguments, all counted from traces."""

import dataclasses
from functools import partial

from flax import linen as nn

from cnnjax.counting import Summary, shape_text, summary
from cnnjax.models.orders import Original
from cnnjax.models.residual import no_norm
from cnnjax.models.resnet import BasicBlock, Bottleneck
from cnnjax.models.shortcuts import NoShortcut
from cnnjax.terminal import Page, Table, table


def compare(*summaries: Summary) -> Table:
    """A table with a line for each; the last column relates their multiply-adds to the first one's."""
    first = summaries[0].macs
    rows = [
        (
            one.name,
            shape_text(one.input),
            f"{one.parameters:,}",
            f"{one.macs:,}",
            str(one.receptive_field),
            f"{100 * one.macs / first:.1f} %",
        )
        for one in summaries
    ]
    return table(rows, ("", "input", "parameters", "multiply-adds", "field", "cost"), "llr")


def story() -> Page:
    """The arithmetic behind the architectures: reductions, small kernels, bottlenecks and whole networks."""
    conv = partial(nn.Conv, use_bias=False)
    block = {
        "strides": 1,
        "conv": conv,
        "order": partial(Original, no_norm, no_norm),  # convolutions alone
        "shortcut": partial(NoShortcut, conv, no_norm, train=False),
    }
    sections = {
        "A 5x5 convolution without and with a 1x1 reduction (Szegedy et al. 2014, module 3a)": {
            "5x5": (conv(32, (5, 5)), (28, 28, 192)),
            "1x1, 5x5": (nn.Sequential([conv(16, (1, 1)), conv(32, (5, 5))]), (28, 28, 192)),
        },
        "One 7x7 convolution and three 3x3 that see as much (Simonyan & Zisserman 2014, section 2.3)": {
            "7x7": (conv(256, (7, 7)), (56, 56, 256)),
            "3x3, 3x3, 3x3": (nn.Sequential([conv(256, (3, 3)) for _ in range(3)]), (56, 56, 256)),
        },
        "Blocks on 256 channels, and the basic block on 64 (He et al. 2015, figure 5)": {
            "3x3, 3x3": (BasicBlock(256, **block), (56, 56, 256)),
            "1x1, 3x3, 1x1": (Bottleneck(64, **block), (56, 56, 256)),
            "3x3, 3x3 on 64": (BasicBlock(64, **block), (56, 56, 64)),
        },
        "Networks (He et al. 2015, figure 3 and table 1)": {
            name: (name, None) for name in ("vgg19", "plain34", "resnet34", "resnet152")
        },
    }
    parts = []
    for title, rows in sections.items():
        costs = (dataclasses.replace(summary(*network), name=name) for name, network in rows.items())
        parts += [title, "", compare(*costs), ""]
    return Page(*parts[:-1])
