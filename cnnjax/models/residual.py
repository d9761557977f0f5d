"""What all residual nets share: blocks, stems, the loop over stages, the common fields.

A paper's file adds its blocks, a class with its fields, and the names.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_choices, check_rates
from cnnjax.models.orders import ORDERS, Original
from cnnjax.models.shortcuts import SHORTCUTS, Template
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.depth import LOOPS, repeat
from cnnjax.ops.init import INITS, he_normal_fan_in
from cnnjax.ops.norm import batch_norm, no_norm
from cnnjax.ops.pooling import max_pool
from cnnjax.ops.precision import types, wide


class Block(nn.Module):
    """A branch of convolutions and a shortcut around it; a subclass has the convolutions.

    Attributes:
        filters: of the branch's first convolution.
        strides: of the whole block.
        conv: template of a convolution.
        shortcut: template of what joins input and branch (`cnnjax.models.shortcuts`).
        order: template of the order of the layers.
        activated: whether what comes before the branch has been done already, by the stem.
        refine: template of what a branch goes through at its end.
        survives: stochastic depth's probability, see `Shortcut`.
    """

    filters: int
    strides: int
    conv: Template
    shortcut: Template
    order: Template
    activated: bool = False
    refine: Template | None = None
    survives: Any = None

    depth: ClassVar[int]  # convolutions in a row

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """The convolutions, named conv1, conv2, ..., and what comes between them."""
        raise NotImplementedError

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, channel]."""
        order: Original = self.order()
        activated = x if self.activated else order.before(x)
        y = order.last(self.branch(activated, order), self.depth)
        if self.refine:
            y = self.refine()(y)
        # A shortcut that is no identity has the branch's input (He et al. 2016, appendix).
        y = self.shortcut(name="shortcut", survives=self.survives)(x if x.shape == y.shape else activated, y)
        return order.after(y, self.depth)


def cifar_stem(x: jax.Array, filters: int, conv: Template, norm: Template, activation: Template) -> jax.Array:
    """3x3 convolution at full resolution (He et al. 2015, section 4.2)."""
    x = conv(filters, (3, 3), 1, padding=1, name="conv1")(x)
    return activation(name="act1")(norm(name="bn1")(x))


def imagenet_stem(
    x: jax.Array, filters: int, conv: Template, norm: Template, activation: Template
) -> jax.Array:
    """7x7 convolution and 3x3 max pooling, both with stride 2 (He et al. 2015, table 1)."""
    x = conv(filters, (7, 7), 2, padding=3, name="conv1")(x)
    x = activation(name="act1")(norm(name="bn1")(x))
    return max_pool(x, 3, 2, padding=1)


def convolution_stem(
    x: jax.Array, filters: int, conv: Template, norm: Template, activation: Template
) -> jax.Array:
    """A 3x3 convolution alone, where the first block or layer begins with BatchNorm and ReLU itself."""
    return conv(filters, (3, 3), 1, padding=1, name="conv1")(x)


STEMS = {"cifar": cifar_stem, "imagenet": imagenet_stem}
NORMS = ("batch", "none")


class ResidualNet(nn.Module):
    """Stages of equal blocks; each stage halves the resolution and doubles the filters.

    Attributes:
        stage_sizes: blocks in each stage.
        block: "basic" or "bottleneck".
        shortcut: "none" (plain net), "A", "B", "C", ...: a name in `cnnjax.models.shortcuts.SHORTCUTS`.
        stem: "cifar" or "imagenet".
        width: filters of the first stage.
        order: of a block's layers, a name in `ORDERS`.
        num_classes: outputs of the classifier.
        norm: "batch", or "none": each convolution has a bias instead.
        bn_momentum: decay of BatchNorm's running averages.
        bn_epsilon: what BatchNorm adds to the variance.
        bn_groups: equal parts of a batch that BatchNorm takes by themselves, as two GPUs do.
        use_bias: whether convolutions have biases besides BatchNorm's.
        activation: a name in `cnnjax.ops.activations.ACTIVATIONS`.
        kernel_init: of the convolutions' kernels at first, a name in `cnnjax.ops.init.INITS`.
        kernel_gain: what these kernels are multiplied by.
        survival: stochastic depth's probability that the last block is there in training; it falls to it
            linearly from 1 at the input (Huang et al. 2016, eq. 4). 1: no stochastic depth.
        shortcut_scale: of shortcut="constant_scaling".
        branch_scale: of shortcut="constant_scaling".
        gate_bias: at first, of shortcut="exclusive_gating" and "shortcut_only_gating".
        shortcut_dropout: rate of shortcut="dropout".
        dtype: of the convolutions; parameters, statistics and logits stay float32 or wider.
        loop: over a stage's equal blocks, "scan", "unrolled" or "auto" (`cnnjax.ops.depth`).
        remat: whether the backward pass recomputes a block's activations, to save memory.
        convolution: "auto", "direct", "canonical" or "native" (`cnnjax.ops.conv`).
    """

    stage_sizes: tuple[int, ...]
    block: str = "basic"
    shortcut: str = "A"
    stem: str = "cifar"
    width: int = 16
    order: str = "original"
    num_classes: int = 10
    norm: str = "batch"
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    bn_groups: int = 1
    use_bias: bool = False
    activation: str = "relu"
    kernel_init: str = "he"
    kernel_gain: float = 1.0
    survival: float = 1.0
    shortcut_scale: float = 0.5
    branch_scale: float = 1.0
    gate_bias: float = -6.0
    shortcut_dropout: float = 0.5
    dtype: Any = jnp.float32
    loop: str = "auto"
    remat: bool = False
    convolution: str = "auto"

    choices: ClassVar[Mapping[str, Any]] = {  # a subclass adds its blocks
        "shortcut": SHORTCUTS,
        "stem": STEMS,
        "order": ORDERS,
        "norm": NORMS,
        "activation": ACTIVATIONS,
        "kernel_init": INITS,
        "loop": LOOPS,
        "convolution": CONVOLUTIONS,
    }
    stem_activates: ClassVar[bool] = True  # the first block finds its input normalised and activated

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the images that the paper has for it."""
        return (32, 32, 3) if self.stem == "cifar" else (224, 224, 3)

    def __post_init__(self) -> None:
        check_choices(self, **self.choices)
        check_at_least_one(self, "stage_sizes", "width", "num_classes", "bn_groups")
        check_rates(self, "shortcut_dropout")
        if not 0 < self.survival <= 1:
            raise UserError(f"survival={self.survival}: must be above 0 and at most 1")
        if self.survival < 1 and self.shortcut == "none":
            raise UserError(
                f"survival={self.survival}: stochastic depth needs a shortcut, not shortcut='none'"
            )
        super().__post_init__()

    def filters(self, stage: int) -> int:
        """Filters of the blocks in the stage, counted from 1."""
        return self.width * 2 ** (stage - 1)

    def templates(self, train: bool) -> dict[str, Any]:
        """What blocks and shortcuts are made with, by the names of their fields."""
        init = INITS[self.kernel_init]
        conv = partial(
            nn.Conv,
            use_bias=self.use_bias or self.norm == "none",
            kernel_init=lambda *arguments: self.kernel_gain * init(*arguments),
            **types(self.dtype),
            conv_general_dilated=CONVOLUTIONS[self.convolution],
        )
        norm = batch_norm(self, train) if self.norm == "batch" else no_norm
        activation = ACTIVATIONS[self.activation]
        return {
            "conv": conv,
            "norm": norm,
            "activation": activation,
            "train": train,
            "kernel_init": conv.keywords["kernel_init"],
        }

    def configure(self, module: type[nn.Module], **templates: Any) -> Template:
        """`module` with those of its fields that are among `templates` or this network's own fields."""
        given = {**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, **templates}
        names = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}
        return partial(module, **{name: given[name] for name in names & given.keys()})

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider."""
        templates = self.templates(train)
        order = partial(self.choices["order"][self.order], templates["norm"], templates["activation"])
        shortcut = self.configure(self.choices["shortcut"][self.shortcut], **templates)
        block_class = nn.remat(self.block_class()) if self.remat else self.block_class()
        own = {"conv": self.block_conv(templates["conv"]), "order": order, "shortcut": shortcut}
        block = self.configure(block_class, **{**templates, **own})

        stem_templates = (templates[name] for name in ("conv", "norm", "activation"))
        x = self.choices["stem"][self.stem](x.astype(self.dtype), self.width, *stem_templates)
        digits = max(2, len(str(max(self.stage_sizes))))
        done = 0
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            filters, strides = self.filters(stage), 1 if stage == 1 else 2
            activated = stage == 1 and self.stem_activates
            names = [f"stage{stage}_block{index:0{digits}d}" for index in range(1, blocks + 1)]
            each = self.each(done, blocks)
            own = {field: values[0] for field, values in each.items()}
            x = block(filters, strides, activated=activated, name=names[0], **own)(x)
            rest = {field: values[1:] for field, values in each.items()}
            x = repeat(self, partial(block, filters, 1), names[1:], x, self.loop, **rest)
            done += blocks
        return self.head(order().before(x, "_last"), train)

    def block_class(self) -> type[Block]:
        """The class of the blocks."""
        return self.choices["block"][self.block]

    def block_conv(self, conv: partial) -> Any:
        """The blocks' template of a convolution, from that of the whole network."""
        return conv

    def each(self, done: int, blocks: int) -> dict[str, list[float]]:
        """What differs between the next `blocks` blocks, `done` having gone before, by field."""
        if self.survival == 1:
            return {}
        step = (1 - self.survival) / sum(self.stage_sizes)
        return {"survives": [1 - step * index for index in range(done + 1, done + blocks + 1)]}

    def head(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [batch, height, width, channel] to logits."""
        return self.classify(x.mean((1, 2)))

    def classify(self, x: jax.Array, kernel_init: Template = he_normal_fan_in) -> jax.Array:
        """[batch, channel] to logits [batch, num_classes], float32 or wider."""
        x = nn.Dense(self.num_classes, kernel_init=kernel_init, **types(self.dtype), name="classifier")(x)
        return x.astype(wide(self.dtype))
