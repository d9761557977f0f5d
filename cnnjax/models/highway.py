"""Highway networks, fully connected and convolutional, and the plain nets they are compared with.

Srivastava, Greff and Schmidhuber, "Highway Networks" and "Training Very Deep Networks", 2015 (arXiv
1505.00387 and 1507.06228): the fully connected nets of figure 1 on MNIST, and the convolutional nets for
MNIST (10 layers, 32 filters) and CIFAR (19 layers, "Highway B") as the authors released them. A layer mixes
what it makes of its input and the input itself (equation 3 with C = 1 - T), unit by unit:

    y = H(x) T(x) + x (1 - T(x)),    T(x) = sigmoid(W_T x + b_T)

A gate's initial bias is negative, so at first the layer mostly carries its input. The first layer, and any
layer whose width differs from its input's, is plain: H alone. With `layer="plain"` all layers are.

Fully connected: `highway{depth}` has `depth` hidden layers, the first of them plain, and a softmax layer
that is not counted. `highway_plain{depth}` is the same net of plain layers; as in the paper its width is 71
instead of 50, which gives a layer as many parameters (5,112 and 5,100). The paper chose the activation
(tanh or ReLU), b_T and the learning rate by random search and does not print the winners: ReLU, -2 and
weights from N(0, 2 / fan-in) are our choices.

Convolutional: weights are Caffe's "xavier", pooling rounds sizes up, and the classifiers' deviations, 0.1 and
0.05, are those of the released nets. The first convolution of the released CIFAR nets would start as N(0, 1),
since Caffe does not know the name under which they give its deviation; here it is like the others. Their
biases learn at twice the rate without decay, and classifiers' kernels have ten times the decay: as the
recipes `highway_cifar` and `highway_mnist` do it. Their pixels are from 0 to 1 (MNIST, by 1/256), and after
global contrast normalisation of unknown scale (CIFAR). With
`num_classes=100` the 19 layers are the authors' CIFAR-100 net, whose classifier starts as "xavier" there. The
11- and 32-layer nets ("Highway A" and "C") are missing: we found no source for the filters of their stages.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_image_size, check_rates
from cnnjax.models.network import ConvNetwork, Network, Template
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.depth import LOOPS, Looped, block_names, repeat
from cnnjax.ops.init import caffe_xavier, he_normal_fan_in, normal
from cnnjax.ops.pooling import max_pool


class PlainLayer(nn.Module):
    """H(x): an affine map, dense or a convolution, and the activation."""

    filters: int
    affine: Template
    activation: Template
    transform_bias: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, ..., channel] to [batch, ..., filters]."""
        return self.transformed(x)

    def transformed(self, x: jax.Array) -> jax.Array:
        """H(x)."""
        return self.activation(name="activation")(self.affine(self.filters, name="transform")(x))


class HighwayLayer(PlainLayer):
    """H(x) where the gate is open and x where it is closed; x must have `filters` channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, ..., filters] to the same."""
        bias = nn.initializers.constant(self.transform_bias)
        gate = nn.sigmoid(self.affine(self.filters, bias_init=bias, name="gate")(x))
        return gate * self.transformed(x) + (1 - gate) * x


LAYERS = {"highway": HighwayLayer, "plain": PlainLayer}


class HighwayNetwork(Network, Looped, kw_only=True):
    """Stages of highway layers or, for comparison, of plain ones. `activation` is that of H.

    Attributes:
        width: units of the first hidden layer, or filters of the first stage.
        layer: "highway" or "plain".
        transform_bias: initial bias of the gates.
        loop: how to loop over a stage's equal layers, "scan", "unrolled" or "auto" (`cnnjax.ops.depth`).
        remat: whether the backward pass recomputes a layer's activations, to save memory.
    """

    width: int
    num_classes: int = 10
    layer: str = "highway"
    transform_bias: float
    loop: str = "auto"
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {**Network.choices, "layer": LAYERS, "loop": LOOPS}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")

    def stage(
        self,
        x: jax.Array,
        stage: int,
        layers: int,
        filters: int,
        affine: Template,
        first: Template | None = None,
    ) -> jax.Array:
        """Layers of equal width, named `stage1_block01` and so on; the first is plain if x has another width.

        The network's first layer is always plain, and may have an affine map of its own.
        """
        fields = {"activation": ACTIVATIONS[self.activation], "transform_bias": self.transform_bias}
        plain, equal = (
            partial(nn.remat(layer) if self.remat else layer, filters, **fields)
            for layer in (PlainLayer, LAYERS[self.layer])
        )
        name, *rest = block_names(stage, layers)
        if stage == 1:
            x = plain(affine=first or affine, name=name)(x)
        elif x.shape[-1] != filters:
            x = plain(affine=affine, name=name)(x)
        else:
            x = equal(affine=affine, name=name)(x)
        return repeat(self, partial(equal, affine=affine), rest, x, self.loop)


class HighwayMLP(HighwayNetwork, kw_only=True):
    """Fully connected layers of equal width on the image's pixels.

    Attributes:
        depth: hidden layers; the first is plain.
    """

    depth: int
    width: int = 50
    transform_bias: float = -2.0

    input_shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "depth")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider."""
        x = x.reshape(len(x), -1).astype(self.dtype)
        x = self.stage(x, 1, self.depth, self.width, self.dense(kernel_init=he_normal_fan_in))
        return self.classify(x, he_normal_fan_in)


class HighwayConvNet(HighwayNetwork, ConvNetwork, kw_only=True):
    """What the convolutional nets share: three stages of 3x3 layers, dropout before each and at the end.

    Attributes:
        stage_sizes: layers in each stage; one that changes the number of filters is plain.
        dropout: the rates before each stage and before the classifier.
    """

    stage_sizes: tuple[int, int, int]
    dropout: tuple[float, float, float, float]
    width: int = 32

    choices: ClassVar[Mapping[str, Any]] = {**HighwayNetwork.choices, **ConvNetwork.choices}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "stage_sizes")
        for field, count in (("stage_sizes", "3 numbers of layers"), ("dropout", "4 rates")):
            value = getattr(self, field)
            if not isinstance(value, tuple) or len(value) != int(count[0]):
                raise UserError(f"{field}={value}: must be {count}")
        check_rates(self, "dropout")

    def square(self, size: int, padding: int) -> Template:
        """Return a template of square convolutions."""
        return self.conv(kernel_size=(size, size), padding=padding, kernel_init=caffe_xavier)


class HighwayMNIST(HighwayConvNet, kw_only=True):
    """Equal stages, each followed by max pooling; the last 3x3 maps are flattened."""

    stage_sizes: tuple[int, int, int] = (3, 3, 3)
    dropout: tuple[float, float, float, float] = (0.2, 0.3, 0.4, 0.5)
    transform_bias: float = -1.0

    input_shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: images of this size do not end in maps of 3x3.
        """
        check_image_size(x, 24, 31)
        x = x.astype(self.dtype)
        stages = zip(self.stage_sizes, self.dropout[:3], (3, 3, 2), strict=True)
        for stage, (layers, rate, pool) in enumerate(stages, start=1):
            x = nn.Dropout(rate, deterministic=not train)(x)
            x = self.stage(x, stage, layers, self.width, self.square(3, 1), first=self.square(5, 0))
            x = max_pool(x, pool, 2, ceil=True)
        x = nn.Dropout(self.dropout[3], deterministic=not train)(x)
        return self.classify(x.reshape(len(x), -1), normal(0.1))


class HighwayCIFAR(HighwayConvNet, kw_only=True):
    """Stages of growing width, then a plain 1x1 convolution and the average over all pixels."""

    stage_sizes: tuple[int, int, int] = (5, 6, 6)
    dropout: tuple[float, float, float, float] = (0.2, 0.2, 0.2, 0.2)
    transform_bias: float = -2.0

    input_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images are smaller than 3x3.
        """
        check_image_size(x, 3)
        x = x.astype(self.dtype)
        filters = (self.width, 5 * self.width // 2, 4 * self.width)
        stages = zip(self.stage_sizes, self.dropout[:3], filters, strict=True)
        for stage, (layers, rate, filters) in enumerate(stages, start=1):
            x = x if stage == 1 else max_pool(x, 2, 2, ceil=True)
            x = nn.Dropout(rate, deterministic=not train)(x)
            x = self.stage(x, stage, layers, filters, self.square(3, 1))
        x = self.stage(x, 4, 1, 25 * self.width // 8, self.square(1, 0))
        x = nn.Dropout(self.dropout[3], deterministic=not train)(x.mean((1, 2)))
        return self.classify(x, normal(0.05))


@register("highway{depth}", HighwayMLP, (10, 20, 50, 100))
def highway(depth: int, **fields: Any) -> HighwayMLP:
    """Srivastava et al. 2015, fully connected highway network for MNIST (any depth)."""
    return HighwayMLP(**{"depth": depth, **fields})


@register("highway_plain{depth}", HighwayMLP, (10, 20, 50, 100))
def highway_plain(depth: int, **fields: Any) -> HighwayMLP:
    """Srivastava et al. 2015, the plain network that highway networks are compared with (any depth)."""
    return HighwayMLP(**{"depth": depth, "layer": "plain", "width": 71, **fields})


@register("highway_mnist10", HighwayMNIST)
def highway_mnist10(**fields: Any) -> HighwayMNIST:
    """Srivastava et al. 2015, convolutional highway network for MNIST."""
    return HighwayMNIST(**fields)


@register("highway_cifar19", HighwayCIFAR)
def highway_cifar19(**fields: Any) -> HighwayCIFAR:
    """Srivastava et al. 2015, convolutional highway network for CIFAR."""
    return HighwayCIFAR(**fields)
