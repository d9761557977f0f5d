"""What all residual nets share: blocks, stems, the loop over stages, common fields.

A paper's file adds its blocks, a class with its fields, and its names.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.network import BatchNormNetwork, Template
from cnnjax.models.orders import ORDERS, Original
from cnnjax.models.shortcuts import SHORTCUTS
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.depth import LOOPS, Looped, block_names, repeat
from cnnjax.ops.init import INITS, he_normal_fan_in
from cnnjax.ops.norm import no_norm
from cnnjax.ops.pooling import max_pool


class Block(nn.Module):
    """A branch of convolutions and a shortcut around it; a subclass adds the convolutions.

    Attributes:
        filters: filters of the branch's first convolution.
        strides: stride of the whole block.
        conv: template of a convolution.
        last_conv: template of the branch's last convolution.
        shortcut: template of what joins input and branch (`cnnjax.models.shortcuts`).
        order: template of the order of the layers.
        activated: whether the stem has already applied what comes before the branch.
        refine: template of a layer at the end of the branch.
        survives: probability that the branch survives (`Shortcut`).
    """

    filters: int
    strides: int
    conv: Template
    shortcut: Template
    order: Template
    activated: bool = False
    refine: Template | None = None
    survives: Any = None
    last_conv: Template | None = None

    depth: ClassVar[int]  # convolutions in a row

    @classmethod
    def fields_from(cls, network: Any, train: bool) -> dict[str, Any]:
        """Return the fields that this kind of block takes from its network, besides those of all blocks."""
        return {}

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """Apply the convolutions, named conv1, conv2, ..., and what comes between them."""
        raise NotImplementedError

    def last(self, *arguments: Any, **fields: Any) -> nn.Module:
        """Return the branch's last convolution, from its own template if it has one."""
        return (self.last_conv or self.conv)(*arguments, **fields)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, channel]."""
        order: Original = self.order()
        activated = x if self.activated else order.before(x)
        y = order.last(self.branch(activated, order), self.depth)
        if self.refine:
            y = self.refine()(y)
        # A shortcut that is not the identity takes the branch's input (He et al. 2016, appendix).
        y = self.shortcut(name="shortcut", survives=self.survives)(x if x.shape == y.shape else activated, y)
        return order.after(y, self.depth)


Finish = Callable[[jax.Array, int], jax.Array]
"""What follows a convolution of the stem, given its result and its number: `Original.stem`."""


def cifar_stem(x: jax.Array, filters: int, conv: Template, finish: Finish) -> jax.Array:
    """3x3 convolution at full resolution (He et al. 2015, section 4.2)."""
    return finish(conv(filters, (3, 3), 1, padding=1, name="conv1")(x), 1)


def imagenet_stem(x: jax.Array, filters: int, conv: Template, finish: Finish) -> jax.Array:
    """7x7 convolution and 3x3 max pooling, both with stride 2 (He et al. 2015, table 1)."""
    x = finish(conv(filters, (7, 7), 2, padding=3, name="conv1")(x), 1)
    return max_pool(x, 3, 2, padding=1)


def convolution_stem(x: jax.Array, filters: int, conv: Template, finish: Finish) -> jax.Array:
    """A bare 3x3 convolution, for nets whose first block or layer begins with BatchNorm and ReLU."""
    return conv(filters, (3, 3), 1, padding=1, name="conv1")(x)


STEMS = {"cifar": cifar_stem, "imagenet": imagenet_stem}
NORMS = ("batch", "layer", "none")


class ResidualNet(BatchNormNetwork, Looped, kw_only=True):
    """Stages of equal blocks; each stage halves the resolution and doubles the filters.

    Attributes:
        stage_sizes: blocks in each stage.
        block: "basic" or "bottleneck".
        shortcut: "none" (plain net), "A", "B", "C", ...: a name in `cnnjax.models.shortcuts.SHORTCUTS`.
        stem: "cifar" or "imagenet".
        width: filters of the first stage.
        order: order of a block's layers, a name in `ORDERS`.
        norm: "batch"; "layer", of each image over its height, width and channels (Ba et al. 2016), in the
            place of BatchNorm; or "none", where each convolution has a bias instead.
        use_bias: whether convolutions have biases besides BatchNorm's.
        kernel_init: initialiser of the convolutions' kernels, a name in `cnnjax.ops.init.INITS`.
        kernel_gain: factor of these initial kernels.
        survival: probability that the last block survives in training, for stochastic depth; it falls to this
            linearly from 1 at the input (Huang et al. 2016, eq. 4). 1 turns stochastic depth off.
        shortcut_scale: factor of the shortcut, for shortcut="constant_scaling".
        branch_scale: factor of the branch, for shortcut="constant_scaling".
        gate_bias: initial bias of the gate, for shortcut="exclusive_gating" and "shortcut_only_gating".
        shortcut_dropout: rate, for shortcut="dropout".
        loop: how to loop over a stage's equal blocks, "scan", "unrolled" or "auto" (`cnnjax.ops.depth`).
        remat: whether the backward pass recomputes a block's activations, to save memory.
    """

    stage_sizes: tuple[int, ...]
    block: str = "basic"
    shortcut: str = "A"
    stem: str = "cifar"
    width: int = 16
    order: str = "original"
    num_classes: int = 10
    norm: str = "batch"
    use_bias: bool = False
    kernel_init: str = "he"
    kernel_gain: float = 1.0
    survival: float = 1.0
    shortcut_scale: float = 0.5
    branch_scale: float = 1.0
    gate_bias: float = -6.0
    shortcut_dropout: float = 0.5
    loop: str = "auto"
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {  # a subclass adds its blocks
        **BatchNormNetwork.choices,
        "shortcut": SHORTCUTS,
        "stem": STEMS,
        "order": ORDERS,
        "norm": NORMS,
        "kernel_init": INITS,
        "loop": LOOPS,
    }
    stem_activates: ClassVar[bool] = True  # the first block's input is already normalised and activated

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the paper's images."""
        return (32, 32, 3) if self.stem == "cifar" else (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "stage_sizes", "width")
        check_rates(self, "shortcut_dropout")
        if not 0 < self.survival <= 1:
            raise UserError(f"survival={self.survival}: must be above 0 and at most 1")
        if self.survival < 1 and self.shortcut == "none":
            raise UserError(
                f"survival={self.survival}: stochastic depth needs a shortcut, not shortcut='none'"
            )

    def filters(self, stage: int) -> int:
        """Return the filters of the blocks in the stage, counted from 1."""
        return self.width * 2 ** (stage - 1)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider."""
        use_bias = self.use_bias or self.norm == "none"
        conv = self.conv(use_bias=use_bias, kernel_init=self.kernel_initializer())
        norms = {"batch": self.batch_norm(train), "layer": self.layer_norm()}
        norm = norms.get(self.norm, no_norm)  # Fixup's is in its order
        order = partial(self.choices["order"][self.order], norm, ACTIVATIONS[self.activation])
        shortcut_class, block_class = self.choices["shortcut"][self.shortcut], self.block_class()
        block = partial(
            nn.remat(block_class) if self.remat else block_class,
            **self.branch_templates(conv),
            shortcut=partial(shortcut_class, conv, norm, train, **shortcut_class.fields_from(self)),
            order=order,
            refine=self.refine(),
            **block_class.fields_from(self, train),
        )

        x = self.choices["stem"][self.stem](x.astype(self.dtype), self.width, conv, order().stem)
        done = 0
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            filters, strides = self.filters(stage), 1 if stage == 1 else 2
            activated = stage == 1 and self.stem_activates
            name, *names = block_names(stage, blocks, max(self.stage_sizes))
            each = self.each(done, blocks)
            own = {field: values[0] for field, values in each.items()}
            x = block(filters, strides, activated=activated, name=name, **own)(x)
            rest = {field: values[1:] for field, values in each.items()}
            x = repeat(self, partial(block, filters, 1), names, x, self.loop, **rest)
            done += blocks
        return self.head(order().before(x, "_last"), train)

    def kernel_initializer(self) -> Callable[..., jax.Array]:
        """Return the initialiser of the convolutions' kernels."""
        init = INITS[self.kernel_init]
        return lambda *arguments: self.kernel_gain * init(*arguments)

    def block_class(self) -> type[Block]:
        """Return the class of the blocks."""
        return self.choices["block"][self.block]

    def branch_templates(self, conv: Template) -> dict[str, Template]:
        """Return the blocks' templates of convolutions, as fields of `Block`, given the network's own."""
        return {"conv": conv}

    def refine(self) -> Template | None:
        """Return a template of a layer for the end of each branch, or None."""
        return None

    def each(self, done: int, blocks: int) -> dict[str, list[float]]:
        """Return the fields that differ between blocks, with a value for each of `blocks` after `done`."""
        if self.survival == 1:
            return {}
        step = (1 - self.survival) / sum(self.stage_sizes)
        return {"survives": [1 - step * index for index in range(done + 1, done + blocks + 1)]}

    def head(self, x: jax.Array, train: bool) -> jax.Array:
        """Features [batch, height, width, channel] to logits."""
        return self.classify(x.mean((1, 2)), he_normal_fan_in)
