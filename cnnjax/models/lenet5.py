"""LeNet-5 as published, and the two nets that go by its name today.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
the IEEE 86(11), 1998, section II.B and figure 2: `lenet5` has the trainable subsampling, the partial
connections of table I, the scaled tanh of appendix A after every layer up to F6, and outputs that are
distances to fixed codes.

The paper leaves some things open. It prints the codes as pictures only (figure 3), so the ten glyphs here are
our own drawings; biases start at zero (the rule of appendix A, +-2.4 / fan-in, is for weights); it does not
give the constant j of the loss. Since this package predicts by `argmax` everywhere, the logits are minus the
distances.

`lenet5_modern` is the net of today's tutorials: ReLU, max pooling, dense connections, dropout and a linear
classifier. `lenet_caffe` is the net that comes with Caffe: it is larger and has no activations between its
convolutions.
"""

from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.network import ConvNetwork, scale_filters
from cnnjax.models.registry import register
from cnnjax.ops import marks
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.conv import CONVOLUTIONS, LAYOUT
from cnnjax.ops.init import lecun_1998, uniform
from cnnjax.ops.pooling import average_pool, max_pool
from cnnjax.ops.precision import wide

C3_INPUTS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
"""Table I: the maps of S2 that each map of C3 sees."""

GLYPHS = """
..###..  ...##..  ..####.  .#####.  .....#.  #######  ...###.  #######  ..###..  ..###..
.#...#.  ..###..  .#....#  #.....#  ....##.  #......  ..#....  ......#  .#...#.  .#...#.
#.....#  .#.##..  #.....#  ......#  ...#.#.  #......  .#.....  ......#  #.....#  #.....#
#.....#  #..##..  ......#  ......#  ..#..#.  #......  #......  .....#.  #.....#  #.....#
#.....#  ...##..  ......#  .....#.  .#...#.  #.###..  #......  .....#.  .#...#.  #.....#
#.....#  ...##..  .....#.  ..###..  #....#.  ##...#.  #.###..  ....#..  ..###..  .#....#
#.....#  ...##..  ....#..  .....#.  #....#.  ......#  ##...#.  ....#..  .#...#.  ..###.#
#.....#  ...##..  ...#...  ......#  #######  ......#  #.....#  ...#...  #.....#  ......#
#.....#  ...##..  ..#....  ......#  .....#.  ......#  #.....#  ...#...  #.....#  ......#
#.....#  ...##..  .#.....  ......#  .....#.  #.....#  #.....#  ..#....  #.....#  .....#.
.#...#.  ...##..  #......  #.....#  .....#.  .#...#.  .#...#.  ..#....  .#...#.  ....#..
..###..  #######  #######  .#####.  .....#.  ..###..  ..###..  ..#....  ..###..  .###...
"""
"""The digits as stylised pictures, 7 pixels wide and 12 high, our own drawings."""

PIXELS = np.array(list("".join(GLYPHS.split()))).reshape(12, 10, 7)
CODES = np.where(PIXELS.transpose(1, 0, 2).reshape(10, 84) == "#", np.float32(1), np.float32(-1))
"""[class, 84]: the fixed weights of the output units, +-1."""


class Subsampling(nn.Module):
    """S2 and S4: the sum of 2x2 pixels, times a trainable coefficient, plus a bias; one of each per map."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, map] to [batch, height / 2, width / 2, map]."""
        shape, dtype = (x.shape[-1],), wide(self.dtype)
        coefficient = self.param("coefficient", uniform(2.4 / 4), shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        sums = 4 * average_pool(x, 2, 2)
        return sums * coefficient.astype(self.dtype) + bias.astype(self.dtype)


class PartialConv(nn.Module):
    """C3: 5x5 convolutions whose maps each see only some of the input's maps.

    Ten maps of C3 see each map of S2, so the kernel is [5, 5, map of S2, ten] and each map of S2 has one
    convolution: no weight and no multiplication is spent on missing connections.
    """

    inputs: tuple[tuple[int, ...], ...] = C3_INPUTS
    convolution: str = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, map] to [batch, height - 4, width - 4, len(inputs)]."""
        seen_by = [[out for out, seen in enumerate(self.inputs) if i in seen] for i in range(x.shape[-1])]
        fan_in = np.array([[25 * len(self.inputs[out]) for out in outs] for outs in seen_by])
        dtype = wide(self.dtype)
        kernel = self.param("kernel", uniform(2.4 / fan_in), (5, 5, *fan_in.shape), dtype).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (len(self.inputs),), dtype)
        convolve = partial(
            CONVOLUTIONS[self.convolution],
            window_strides=(1, 1),
            padding=((0, 0), (0, 0)),
            dimension_numbers=LAYOUT,
        )
        parts = [convolve(x[..., i : i + 1], kernel[:, :, i : i + 1]) for i in range(x.shape[-1])]
        maps = []
        for out, seen in enumerate(self.inputs):
            places = ((i, seen_by[i].index(out)) for i in seen)
            maps.append(sum(parts[i][..., place : place + 1] for i, place in places))
        return marks.layer(jnp.concatenate(maps, -1) + bias.astype(self.dtype), kernel)


class RadialBasis(nn.Module):
    """The output units, whose weights are fixed: they are the codes.

    It leaves its input in the collection "features" where that is asked for (`cnnjax.second_order`).
    """

    num_classes: int

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, 84] to minus the squared distances to the codes [batch, num_classes] (equation 7)."""
        if not self.is_initializing():  # `init` returns variables only
            self.sow("features", "f6", x)
        return minus_distances(x, self.num_classes)


def minus_distances(x: jax.Array, classes: int) -> jax.Array:
    """[batch, 84] to minus the squared distances to the codes [batch, classes]."""
    return -jnp.square(x[:, None] - CODES[:classes]).sum(-1)


class LeNet5(ConvNetwork, kw_only=True):
    """Figure 2: C1, S2, C3, S4, C5, F6 and ten radial basis functions. 60,000 trainable parameters.

    Table I and the glyphs fix the widths, so no field changes them. The activation follows every layer up to
    F6.

    Attributes:
        num_classes: number of digits from 0 on, at most 10.
        padding: rows and columns of zeros around the image, 2 for images of 28x28.
    """

    num_classes: int = 10
    padding: int = 0
    activation: str = "scaled_tanh"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the images that the network is for."""
        return 32 - 2 * self.padding, 32 - 2 * self.padding, 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes > len(CODES):
            raise UserError(
                f"num_classes={self.num_classes}: lenet5 has codes for 10 digits; try lenet5_modern"
            )

    def readout(self, features: jax.Array) -> jax.Array:
        """The part without parameters: F6 [batch, 84] to minus the distances [batch, num_classes]."""
        return minus_distances(features, self.num_classes)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, 32, 32, channel] to minus the distances to the codes [batch, num_classes].

        Raises:
            UserError: the images, with the padding, are not 32x32.
        """
        if any(size + 2 * self.padding != 32 for size in x.shape[1:3]):
            raise UserError(
                f"lenet5 takes images of 32x32, or of 28x28 with padding=2: "
                f"not {x.shape[1]}x{x.shape[2]} with padding={self.padding}"
            )
        act = ACTIVATIONS[self.activation]
        conv = self.conv(kernel_size=(5, 5), kernel_init=lecun_1998)
        x = conv(6, padding=self.padding, name="c1")(x)
        x = act(name="act1")(x)
        x = Subsampling(self.dtype, name="s2")(x)
        x = act(name="act2")(x)
        x = PartialConv(convolution=self.convolution, dtype=self.dtype, name="c3")(x)
        x = act(name="act3")(x)
        x = Subsampling(self.dtype, name="s4")(x)
        x = act(name="act4")(x)
        x = conv(120, padding=0, name="c5")(x)
        x = act(name="act5")(x)
        x = self.dense(kernel_init=lecun_1998)(84, name="f6")(x[:, 0, 0])
        x = act(name="act6")(x).astype(wide(self.dtype))
        return RadialBasis(self.num_classes, name="output")(x)


class LeNet5Modern(ConvNetwork, kw_only=True):
    """Two 5x5 convolutions with ReLU and max pooling, then dense layers of 120, 84 and the classes.

    Images of 32x32, or of 28x28 with padding 2, become 400 features, and the net has 61,706 parameters;
    images of 28x28 without padding become 256, and it has 44,426. Kernels start with Glorot and Bengio's
    uniform distribution.

    Attributes:
        width: filters of the first convolution; all other layers keep their ratio to it.
        padding: rows and columns of zeros around the image before the first convolution.
        dropout: rate after each hidden fully connected layer.
    """

    width: int = 6
    num_classes: int = 10
    padding: int = 0
    dropout: float = 0.5

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[height, width, channel] of the images that the network is for."""
        return 32 - 2 * self.padding, 32 - 2 * self.padding, 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the sides of the images, with the padding, are not multiples of 4, at least 16.
        """
        if any((size + 2 * self.padding) % 4 or size + 2 * self.padding < 16 for size in x.shape[1:3]):
            raise UserError(
                f"images of {x.shape[1]}x{x.shape[2]} with padding={self.padding}: "
                "sides, with the padding, must be multiples of 4 and at least 16, such as 28 and 32"
            )
        act = ACTIVATIONS[self.activation]
        init: Any = nn.initializers.glorot_uniform()
        conv, dense = self.conv(kernel_size=(5, 5), kernel_init=init), self.dense(kernel_init=init)
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        filters = partial(scale_filters, self.width / 6)

        x = conv(filters(6), padding=self.padding, name="conv1")(x)
        x = max_pool(act(name="act1")(x), 2, 2)
        x = conv(filters(16), padding=0, name="conv2")(x)
        x = max_pool(act(name="act2")(x), 2, 2)
        x = x.reshape(len(x), -1)
        for index, features in enumerate((120, 84), start=1):
            x = dense(filters(features), name=f"fc{index}")(x)
            x = dropout()(act(name=f"act{index + 2}")(x))
        return self.classify(x, init, name="fc3")


class CaffeLeNet(ConvNetwork, kw_only=True):
    """Caffe's examples/mnist/lenet: two convolutions, 20 and 50, each with max pooling; then 500; classes.

    Kernels are drawn from U(-a, a) with a = sqrt(3 / fan-in), Caffe's "xavier". The activation follows the
    hidden fully connected layer only.

    Attributes:
        width: filters of the first convolution; all other layers keep their ratio to it.
    """

    width: int = 20
    num_classes: int = 10

    input_shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, 28, 28, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images are not 28x28.
        """
        if x.shape[1:3] != (28, 28):
            raise UserError(f"lenet_caffe takes images of 28x28: not {x.shape[1]}x{x.shape[2]}")
        init: Any = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
        conv = self.conv(kernel_size=(5, 5), padding=0, kernel_init=init)
        filters = partial(scale_filters, self.width / 20)

        x = max_pool(conv(filters(20), name="conv1")(x), 2, 2)
        x = max_pool(conv(filters(50), name="conv2")(x), 2, 2)
        x = self.dense(kernel_init=init)(filters(500), name="fc1")(x.reshape(len(x), -1))
        return self.classify(ACTIVATIONS[self.activation](name="act1")(x), init, name="fc2")


def map_loss(logits: jax.Array, labels: jax.Array, j: float) -> jax.Array:
    """Return equation 9, the maximum a posteriori criterion, for each image [batch]; the paper averages it.

    It is y + log(exp(-j) + sum_i exp(-y_i)), where the distances y_i are minus the `logits` [batch, class],
    and y is the distance of the `labels` [batch]. It pulls the right distance down and pushes the wrong ones
    up, but hardly those that already exceed `j`. As j grows it becomes the cross-entropy.
    """
    right = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return jnp.logaddexp(-j, jax.nn.logsumexp(logits, axis=-1)) - right


@register("lenet5", LeNet5)
def lenet5(**fields: Any) -> LeNet5:
    """LeCun et al. 1998, figure 2: trainable subsampling, partial connections, distances to codes."""
    return LeNet5(**fields)


@register("lenet5_modern", LeNet5Modern)
def lenet5_modern(**fields: Any) -> LeNet5Modern:
    """LeCun et al. 1998 as it is taught today: ReLU, max pooling, dropout, a linear classifier."""
    return LeNet5Modern(**fields)


@register("lenet_caffe", CaffeLeNet)
def lenet_caffe(**fields: Any) -> CaffeLeNet:
    """LeCun et al. 1998 as in Caffe's example for MNIST: 20-50-500."""
    return CaffeLeNet(**fields)
