"""ResNeXt: bottlenecks whose 3x3 convolution has groups.

Xie, Girshick, Dollár, Tu and He, "Aggregated Residual Transformations for Deep Neural Networks", 2016 (arXiv
1611.05431): the CIFAR nets of 29 layers and the ImageNet nets of tables 1 and 3. A name has the cardinality C
and the width d of a group: `resnext50_32x4d`; d is the first stage's, and doubles with the filters. Blocks
are as in the authors' code: BatchNorm after each convolution, ReLU after the addition, option B, the stride
in the 3x3.

Figure 3 draws the same block in three forms, the values of `form`: "grouped" (c), one convolution with C
groups; "concatenated" (b), C paths of two convolutions, joined before the last; "split" (a), C paths of
three convolutions, summed. The last BatchNorm follows the sum. `convert` turns the variables of one form into
those of another; the function stays the same. The initial kernels of the paths have the variance of the
grouped ones.

The paper says that its CIFAR nets have pre-activation blocks; the released code has these instead, and
reports better numbers with them. `order="full_preactivation"` gives the paper's.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.network import Template
from cnnjax.models.orders import Original
from cnnjax.models.registry import register
from cnnjax.models.residual import Block
from cnnjax.models.resnet import IMAGENET_STAGES, Bottleneck, ResNet, bottleneck_shape, group_width
from cnnjax.ops.depth import stage_of


class BlockPath(nn.Module):
    """One of a block's paths: a 1x1 and a 3x3 convolution, each with what follows it."""

    filters: int
    strides: Mapping[str, int]
    cardinality: int
    conv: Template
    order: Original
    kernel_init: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, filters]."""
        init = self.init_as_a_group
        y = self.conv(self.filters, (1, 1), self.strides["1x1"], padding=0, kernel_init=init, name="conv1")(y)
        y = self.order.between(y, 1)
        y = self.conv(self.filters, (3, 3), self.strides["3x3"], padding=1, kernel_init=init, name="conv2")(y)
        return self.order.between(y, 2)

    def init_as_a_group(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw a kernel with the variance of the grouped convolution's."""
        *inputs, outputs = shape
        return self.kernel_init(key, (*inputs, self.cardinality * outputs), dtype)[..., :outputs]


class SplitBlockPath(BlockPath):
    """One of a block's paths with its own share of the last 1x1 convolution."""

    outputs: int = 0

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, outputs]."""
        init = self.init_as_a_share
        return self.conv(self.outputs, (1, 1), 1, padding=0, kernel_init=init, name="conv3")(
            super().__call__(y)
        )

    def init_as_a_share(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw a kernel with the variance of that of all paths together."""
        *spatial, inputs, outputs = shape
        return self.kernel_init(key, (*spatial, self.cardinality * inputs, outputs), dtype)[..., :inputs, :]


class ConcatenatedBottleneck(Bottleneck):
    """Form (b): the paths' feature maps are concatenated before the last convolution."""

    kernel_init: Any = None

    @classmethod
    def fields_from(cls, network: Any, train: bool) -> dict[str, Any]:
        """Return those of a bottleneck, and how the paths draw their kernels."""
        return {**super().fields_from(network, train), "kernel_init": network.kernel_initializer()}

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, 4 * filters]."""
        y = jnp.concatenate([path(y) for path in self.paths(BlockPath, order)], axis=-1)
        return self.last(4 * self.filters, (1, 1), 1, padding=0, name="conv3")(y)

    def paths(self, path: type[BlockPath], order: Original, **fields: Any) -> list[BlockPath]:
        """Return the paths, path01, path02, ..."""
        return [
            path(
                group_width(self.filters, self.base_width),
                {"1x1": 1, "3x3": 1, self.strides_at: self.strides},
                self.cardinality,
                self.conv,
                order,
                self.kernel_init,
                **fields,
                name=name,
            )
            for name in path_names(self.cardinality)
        ]


def path_names(cardinality: int) -> list[str]:
    """Return the names of a block's paths."""
    digits = max(2, len(str(cardinality)))
    return [f"path{index:0{digits}d}" for index in range(1, cardinality + 1)]


class SplitBottleneck(ConcatenatedBottleneck):
    """Form (a): the paths have all three convolutions, and are summed."""

    def branch(self, y: jax.Array, order: Original) -> jax.Array:
        """[batch, height, width, channel] to [batch, height / strides, width / strides, 4 * filters]."""
        first, *others = (path(y) for path in self.paths(SplitBlockPath, order, outputs=4 * self.filters))
        return sum(others, start=first)


FORMS: dict[str, type[Block]] = {
    "grouped": Bottleneck,
    "concatenated": ConcatenatedBottleneck,
    "split": SplitBottleneck,
}


class ResNeXt(ResNet, kw_only=True):
    """A residual net of bottlenecks with groups.

    Attributes:
        form: form of the blocks, "grouped", "concatenated" or "split" (figure 3, c, b and a).
    """

    block: str = "bottleneck"
    shortcut: str = "B"
    width: int = 64
    strides_at: str = "3x3"
    form: str = "grouped"

    choices: ClassVar[Mapping[str, Any]] = {
        **ResNet.choices,
        "block": {"bottleneck": Bottleneck},
        "form": FORMS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form != "grouped" and (self.use_bias or self.norm == "none"):
            raise UserError(f"form={self.form!r} needs norm='batch' and use_bias=False: paths share a bias")

    def block_class(self) -> type[Block]:
        """Return the class of this form's blocks."""
        return FORMS[self.form]


def convert(model: ResNeXt, variables: Any, form: str) -> Any:
    """Convert variables of `model`, by block or stacked, from any form to `form`."""
    return {
        kind: {
            name: _split(_grouped(entry, model), model, form) if stage_of(name) else entry
            for name, entry in tree.items()
        }
        for kind, tree in variables.items()
    }


@functools.cache
def _divided(model: ResNeXt, form: str) -> dict[str, int]:
    """The layers that each path of a block in `form` has for itself, and the axis along which they divide.

    That is the axis in which a path's arrays are smaller than those of the grouped block: the outputs, but
    the inputs of the last convolution.
    """
    first, *_ = path_names(model.cardinality)
    return {
        layer: next((axis for axis in (-1, -2) if part.shape[axis:] != whole.shape[axis:]), -1)
        for path, grouped in zip(_blocks(model, form), _blocks(model, "grouped"), strict=True)
        for layer, arrays in path.get(first, {}).items()
        for part, whole in zip(*map(jax.tree.leaves, (arrays, grouped[layer])), strict=True)
    }


def _blocks(model: ResNeXt, form: str) -> list[dict[str, Any]]:
    """Shapes of a block in `form`: of its parameters, and of its statistics."""
    one_block = model.clone(form=form, stage_sizes=(1,))
    images = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    shapes = jax.eval_shape(functools.partial(one_block.init, train=False), jax.random.key(0), images)
    return [entry for tree in shapes.values() for name, entry in tree.items() if stage_of(name)]


def _grouped(block: dict[str, Any], model: ResNeXt) -> dict[str, Any]:
    names = path_names(model.cardinality)
    paths = [block[name] for name in names if name in block]
    if not paths:
        return block
    axes = _divided(model, "split")  # pyright: ignore - Flax's modules can be hashed
    whole = {name: entry for name, entry in block.items() if name not in names}
    layers = {
        layer: jax.tree.map(
            lambda *parts, layer=layer: jnp.concatenate(parts, axes[layer]), *(path[layer] for path in paths)
        )
        for layer in paths[0]
    }
    return {**layers, **whole}


def _split(block: dict[str, Any], model: ResNeXt, form: str) -> dict[str, Any]:
    axes = _divided(model, form)  # pyright: ignore - Flax's modules can be hashed
    if not axes:
        return block

    def part(layer: str, index: int) -> Any:
        return jax.tree.map(lambda leaf: jnp.split(leaf, model.cardinality, axes[layer])[index], block[layer])

    paths = {
        name: {layer: part(layer, index) for layer in block if layer in axes}
        for index, name in enumerate(path_names(model.cardinality))
    }
    return {**paths, **{layer: entry for layer, entry in block.items() if layer not in axes}}


@register(
    "resnext{depth}_{c}x{d}d",
    ResNeXt,
    ((29, 8, 64), (29, 16, 64), (50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 64, 4)),
)
def resnext(depth: int, c: int, d: int, **fields: Any) -> ResNeXt:
    """Xie et al. 2016, ResNeXt (CIFAR: 29 and any 9n + 2; ImageNet: 50, 101, 152, 200)."""
    blocks, rest = divmod(depth - 2, 9)
    if rest or blocks < 1 or depth in IMAGENET_STAGES:
        shape = bottleneck_shape(f"resnext{depth}_{c}x{d}d", depth, "or, for CIFAR, 9n + 2")
    else:
        shape = {"stage_sizes": (blocks,) * 3}
    return ResNeXt(**{**shape, "cardinality": c, "base_width": d, **fields})
