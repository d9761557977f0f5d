"""The CIFAR-10 nets around AlexNet.

Krizhevsky, Sutskever and Hinton 2012 (see `cnnjax.models.alexnet`) compare ReLU with tanh on a net of four
layers (figure 1), measure local response normalisation on another, whose error is 13 % without it and 11 %
with it (section 3.3), and refer to cuda-convnet. These are the nets of its example files, named by their
error: `cuda_convnet_80sec` (26 % after 80 seconds), `cuda_convnet_18pct`, `cuda_convnet_13pct` and
`cuda_convnet_11pct`. As there:

- pooling rounds its output size up; the first layer of the first two nets pools before its activation;
- "18pct" normalises within each map, "11pct" across them; alpha weighs means, not sums;
- the last two layers before the classifier of "13pct" and "11pct" are locally connected;
- each layer's initial weights have their own standard deviation, 0.0001 in the first; biases are 0.

`alexnet_cifar` is for figure 1, whose net the paper does not print: it is "18pct" without the normalisation,
whose three convolutions and classifier are four layers, and `activation` is "relu" or "tanh". None of these
nets has BatchNorm; the fields `norm`, `order` and `kernel_init` are ours.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_image_size
from cnnjax.models.network import BatchNormNetwork, ConvNetwork, scale_filters
from cnnjax.models.orders import BatchNormAfterActivation, Original
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import INITS, normal
from cnnjax.ops.local import LocalConv
from cnnjax.ops.lrn import local_response_norm, response_norm_within_maps
from cnnjax.ops.norm import no_norm
from cnnjax.ops.pooling import average_pool, max_pool

ORDERS = {"original": Original, "bn_after_activation": BatchNormAfterActivation}


class CudaConvnet(BatchNormNetwork, kw_only=True):
    """Three 5x5 convolutions, each with 3x3 pooling, and one or two fully connected layers.

    Attributes:
        width: filters of the first convolution; all other layers keep their ratio to it.
        hidden: units of the hidden fully connected layer at the paper's width; 0 leaves it out.
        lrn: whether to apply response normalisation within maps after the first two poolings.
        dense_std: standard deviation of the fully connected layers' initial weights.
        norm: "none", or "batch" for BatchNorm at each convolution.
        order: where BatchNorm is, before the activation ("original") or "bn_after_activation".
        kernel_init: initialiser of the convolutions' kernels, a name in `cnnjax.ops.init.INITS`; "normal" has
            the paper's standard deviations.
    """

    width: int = 32
    hidden: int = 0
    lrn: bool = False
    dense_std: float = 0.01
    norm: str = "none"
    order: str = "original"
    kernel_init: str = "normal"
    num_classes: int = 10

    choices: ClassVar[Mapping[str, Any]] = {
        **BatchNormNetwork.choices,
        "norm": ("batch", "none"),
        "order": ORDERS,
        "kernel_init": ("normal", *INITS),
    }
    input_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")
        if self.hidden < 0:
            raise UserError(f"hidden={self.hidden}: must be at least 0, where 0 leaves the layer out")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: a side of the images is below 10 pixels.
        """
        check_image_size(x, 10)
        act = ACTIVATIONS[self.activation]
        norm = self.batch_norm(train) if self.norm == "batch" else no_norm
        activate = ORDERS[self.order](norm, act).stem
        conv = self.conv(kernel_size=(5, 5), padding=2)
        dense_init = normal(self.dense_std)

        def init(std: float) -> Callable[..., jax.Array]:
            return INITS.get(self.kernel_init, normal(std))

        def normalize(x: jax.Array) -> jax.Array:
            return response_norm_within_maps(x, 3, 5e-5, 0.75, 1.0) if self.lrn else x

        x = conv(self.width, kernel_init=init(0.0001), name="conv1")(x)
        x = normalize(activate(max_pool(x, 3, 2, ceil=True), 1))
        x = conv(self.width, kernel_init=init(0.01), name="conv2")(x)
        x = normalize(average_pool(activate(x, 2), 3, 2, ceil=True))
        x = conv(2 * self.width, kernel_init=init(0.01), name="conv3")(x)
        x = average_pool(activate(x, 3), 3, 2, ceil=True)
        x = x.reshape(len(x), -1)
        if self.hidden:
            units = scale_filters(self.width / 32, self.hidden)
            x = act(name="act4")(self.dense(kernel_init=dense_init)(units, name="hidden")(x))
        return self.classify(x, dense_init)


class CudaConvnetLocal(ConvNetwork, kw_only=True):
    """Two 5x5 convolutions, each with 3x3 max pooling, two locally connected layers and the classifier.

    Attributes:
        local_filters: filters of the two locally connected layers at the paper's width.
        lrn: whether to apply response normalisation across maps, after the first pooling and before the
            second.
        width: filters of the first convolution; all other layers keep their ratio to it.
    """

    local_filters: tuple[int, int] = (32, 32)
    lrn: bool = False
    width: int = 64
    num_classes: int = 10

    input_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: a side of the images is below 6 pixels.
        """
        check_image_size(x, 6)
        act = ACTIVATIONS[self.activation]
        conv = self.conv(features=self.width, kernel_size=(5, 5), padding=2)

        def normalize(x: jax.Array) -> jax.Array:
            return local_response_norm(x, 9, 0.001, 0.75, 1.0, alpha_per="mean") if self.lrn else x

        x = conv(kernel_init=normal(0.0001), name="conv1")(x)
        x = normalize(max_pool(act(name="act1")(x), 3, 2, ceil=True))
        x = conv(kernel_init=normal(0.01), name="conv2")(x)
        x = max_pool(normalize(act(name="act2")(x)), 3, 2, ceil=True)
        for index, paper in enumerate(self.local_filters, start=3):
            filters = scale_filters(self.width / 64, paper)
            x = LocalConv(filters, 3, 1, normal(0.04), self.dtype, name=f"local{index}")(x)
            x = act(name=f"act{index}")(x)
        return self.classify(x.reshape(len(x), -1), normal(0.01))


@register("alexnet_cifar", CudaConvnet)
def alexnet_cifar(**fields: Any) -> CudaConvnet:
    """Krizhevsky et al. 2012, for figure 1: four layers, `activation` "relu" or "tanh"."""
    return CudaConvnet(**fields)


@register("cuda_convnet_80sec", CudaConvnet)
def cuda_convnet_80sec(**fields: Any) -> CudaConvnet:
    """Krizhevsky 2011, cuda-convnet's layers-80sec: 26 % error on CIFAR-10."""
    return CudaConvnet(**{"hidden": 64, "dense_std": 0.1, **fields})


@register("cuda_convnet_18pct", CudaConvnet)
def cuda_convnet_18pct(**fields: Any) -> CudaConvnet:
    """Krizhevsky 2011, cuda-convnet's layers-18pct: with response normalisation within maps."""
    return CudaConvnet(**{"lrn": True, **fields})


@register("cuda_convnet_13pct", CudaConvnetLocal)
def cuda_convnet_13pct(**fields: Any) -> CudaConvnetLocal:
    """Krizhevsky et al. 2012, section 3.3: locally connected layers, without normalisation."""
    return CudaConvnetLocal(**fields)


@register("cuda_convnet_11pct", CudaConvnetLocal)
def cuda_convnet_11pct(**fields: Any) -> CudaConvnetLocal:
    """Krizhevsky et al. 2012, section 3.3: locally connected layers, with normalisation across maps."""
    return CudaConvnetLocal(**{"local_filters": (64, 32), "lrn": True, **fields})
