"""FractalNets: deep networks without shortcuts, whose paths of different lengths train each other.

Larsson, Maire and Shakhnarovich, "FractalNet: Ultra-Deep Neural Networks without Residuals", 2016 (arXiv
1605.07648): f_1(x) is a layer, and f_{C+1}(x) joins f_C(f_C(x)) with another layer's output (equation 1).
Joins that meet are one, the mean of all its inputs. So f_C has C columns of 1, 2, 4, ... layers, and five
such blocks, each with a 2x2 max pooling, are 5 * 2^(C - 1) layers deep: 20 with three columns, 40 with four.

In training drop-path drops inputs of the joins, drawn once a batch: in half of the batches locally, each
input with probability 0.15 but never all of a join's; in the others globally, all but one column of the whole
net. A dropped path is computed and replaced by 0, so BatchNorm's running averages see every batch.

With `column` the net is one column alone, a plain net. It takes the variables of the whole, of which
`extract` returns its own; or it is trained by itself, to compare:

    deepest = whole.clone(column=4)
    deepest.apply(variables_of_the_whole, images, train=False)
    plain = build("fractalnet40", column=4)  # 40 layers

What the paper leaves open is as in the authors' generator of Caffe files (gustavla/fractalnet): a layer is a
3x3 convolution with bias, dropout, BatchNorm and ReLU, weights are Caffe's "xavier", pooling comes before the
last join of a block, and rounds sizes up. Its BatchNorm has no scale and shift; ours, as in the parameters
below, has. What is left of an image after the last block, one pixel of 32x32, is averaged.

`fractalnet20` has 33,734,922 parameters; the paper prints 38.6 M, which these widths do not give. Its
results, test error in percent without and with drop-path and dropout, "+" with shifts and mirror images:
CIFAR-10 10.18, 7.33; CIFAR-10+ 5.22, 4.60; CIFAR-100 35.34, 28.20; CIFAR-100+ 23.30, 23.73; SVHN 2.01, 1.87.
The recipe is `fractalnet_cifar`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.network import BatchNormNetwork, Template
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import caffe_xavier
from cnnjax.ops.pooling import max_pool

BLOCKS = 5


class DropPath(NamedTuple):
    """What the joins of a net drop from a batch.

    Attributes:
        rate: probability that an input is dropped locally.
        columns: of the net.
        is_global: whether a single column is kept.
        column: which one, counted from 0.
        key: of what the joins draw locally.
    """

    rate: float
    columns: int
    is_global: jax.Array
    column: jax.Array
    key: jax.Array

    @classmethod
    def draw(cls, key: jax.Array, rate: float, columns: int) -> "DropPath":
        """Local or global, with equal probability, and any column."""
        is_global = jax.random.bernoulli(jax.random.fold_in(key, 0))
        column = jax.random.randint(jax.random.fold_in(key, 1), (), 0, columns)
        return cls(rate, columns, is_global, column, jax.random.fold_in(key, 2))

    def of_block(self, block: int) -> "DropPath":
        """The same for one block, whose joins draw by themselves."""
        return self._replace(key=jax.random.fold_in(self.key, block))

    def alive(self, join: int, inputs: int) -> jax.Array:
        """Which inputs of the join with this number are kept, [inputs]; they are the last columns."""
        drop_key, kept_key = jax.random.split(jax.random.fold_in(self.key, join))
        locally = jax.random.bernoulli(drop_key, 1 - self.rate, (inputs,))
        kept = jnp.arange(inputs) == jax.random.randint(kept_key, (), 0, inputs)
        locally = jnp.where(locally.any(), locally, kept)
        globally = jnp.arange(self.columns - inputs, self.columns) == self.column
        globally |= ~globally.any()  # of a join that the column does not pass nothing is used
        return jnp.where(self.is_global, globally, locally)


def join(inputs: Sequence[jax.Array], alive: jax.Array | None = None) -> jax.Array:
    """The mean of arrays of one shape, or of those that are `alive` [input]."""
    if alive is None:
        return sum(inputs[1:], inputs[0]) / len(inputs)
    kept = [jnp.where(is_alive, x, 0) for is_alive, x in zip(alive, inputs, strict=True)]
    return sum(kept[1:], kept[0]) / alive.sum().astype(inputs[0].dtype)


class Layer(nn.Module):
    """A 3x3 convolution, dropout, BatchNorm and ReLU."""

    conv: Template
    norm: Template
    activation: Template
    dropout: Template

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to [batch, height, width, filters]."""
        x = self.dropout()(self.conv(name="conv")(x))
        return self.activation(name="act")(self.norm(name="bn")(x))


class Block(nn.Module):
    """f_C and its pooling, or one column of it.

    Attributes:
        columns: C.
        layer: template of a layer; the first of column 2 is called column2_layer01.
        column: the only column to compute, counted from the shallowest, 1; None computes all.
    """

    columns: int
    layer: Template
    column: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, drop: DropPath | None = None) -> jax.Array:
        """[batch, height, width, channel] to half the resolution; `drop` is what this block drops."""
        joins, done = count(), {column: count(1) for column in range(1, self.columns + 1)}

        def layer(column: int, x: jax.Array) -> jax.Array:
            return self.layer(name=f"column{column}_layer{next(done[column]):02d}")(x)

        def joined(inputs: Sequence[jax.Array]) -> jax.Array:
            return join(inputs, drop and drop.alive(next(joins), len(inputs)))

        def outputs(x: jax.Array, column: int) -> list[jax.Array]:
            """What the join at the end of f_{C + 1 - column} takes; `column` is its shallowest."""
            if column == self.columns:
                return [layer(column, x)]
            halfway = joined(outputs(x, column + 1))
            return [layer(column, x), *outputs(halfway, column + 1)]

        if self.column is None:
            return joined([pool(y) for y in outputs(x, 1)])
        for _ in range(2 ** (self.column - 1)):
            x = layer(self.column, x)
        return pool(x)


def pool(x: jax.Array) -> jax.Array:
    """2x2 max pooling; a single pixel stays."""
    return max_pool(x, 2, 2, ceil=True) if min(x.shape[1:3]) > 1 else x


class FractalNet(BatchNormNetwork, kw_only=True):
    """Five fractal blocks and a linear classifier.

    Attributes:
        columns: of each block, C.
        column: the only column to compute, counted from the shallowest, 1; None computes the whole net.
        width: filters of the first block; the others have 2, 4, 8 and 8 times as many.
        dropout: rate in each of the five blocks; the paper's nets without it have (0, 0, 0, 0, 0).
        drop_path: probability that local drop-path drops an input of a join; 0 turns all drop-path off.
    """

    columns: int
    column: int | None = None
    width: int = 64
    num_classes: int = 10
    dropout: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)
    drop_path: float = 0.15

    input_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "columns", "width")
        check_rates(self, "dropout", "drop_path")
        if len(self.dropout) != BLOCKS:
            raise UserError(f"dropout={self.dropout}: must be {BLOCKS} rates, one for each block")
        if self.column is not None and self.column not in range(1, self.columns + 1):
            raise UserError(f"column={self.column}: must be from 1 to {self.columns}, or None")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider."""
        drop = None
        if train and self.drop_path and self.column is None:
            drop = DropPath.draw(self.make_rng("dropout"), self.drop_path, self.columns)
        conv = self.conv(kernel_size=(3, 3), padding=1, kernel_init=caffe_xavier)
        layer = partial(Layer, norm=self.batch_norm(train), activation=ACTIVATIONS[self.activation])
        x = x.astype(self.dtype)
        for block, rate in enumerate(self.dropout):
            own = partial(
                layer,
                conv=partial(conv, self.width * min(8, 2**block)),
                dropout=partial(nn.Dropout, rate, deterministic=not train),
            )
            x = Block(self.columns, own, self.column, name=f"block{block + 1}")(
                x, drop and drop.of_block(block)
            )
        return self.classify(x.mean((1, 2)), caffe_xavier)


def extract(variables: Mapping[str, Any], model: FractalNet) -> dict[str, Any]:
    """The part of a whole net's variables that `model`, a column of it, has by itself."""
    images = jax.ShapeDtypeStruct((1, *model.input_shape), model.dtype)
    own = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)

    def pick(wanted: Any, given: Any) -> Any:
        return (
            {name: pick(wanted[name], given[name]) for name in wanted} if isinstance(wanted, dict) else given
        )

    return pick(own, variables)


@register("fractalnet{depth}", FractalNet, (20, 40))
def fractalnet(depth: int, **fields: Any) -> FractalNet:
    """Larsson et al. 2016, FractalNet for CIFAR (depth 5, 10, 20, ...: 1, 2, 3, ... columns)."""
    columns = max(1, (depth // BLOCKS).bit_length())
    if depth != (nearest := BLOCKS * 2 ** (columns - 1)):
        raise UserError(
            f"fractalnet{depth}: depth {depth} is not 5 * 2^n (nearest: fractalnet{nearest} and "
            f"fractalnet{2 * nearest})"
        )
    return FractalNet(**{"columns": columns, **fields})
