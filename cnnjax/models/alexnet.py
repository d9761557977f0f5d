"""AlexNet, and the net of the same name in torchvision.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS
2012, figure 2. The two towers, one on each GPU, are groups of channels: in the second, fourth and fifth
convolution each sees its own tower only. With one group the net is dense, as most ports have it.

- Normalisation comes after ReLU and before pooling (section 3.5); its alpha multiplies the sum of squares, as
  in the paper's formula, or with `lrn_alpha_per="mean"` their mean, as in the authors' code and Caffe. It
  stays within a tower, since the GPUs do not communicate before the third convolution. In Caffe's nets it
  crosses towers (`lrn_across="all"`) and has `lrn_k=1`; CaffeNet's comes after pooling (`lrn_after`).
- The paper crops images to 224x224, but its first layer has 55x55 outputs only for 227x227 without padding.
  Both sizes work: 224x224 is padded with two pixels of zeros, of which one row and one column go unused.
- The paper halves all outputs at test time to make up for dropout; here they are doubled in training instead,
  which gives the same function with weights half as large.
- Initial weights are N(0, 0.01 * 0.01) and biases 1 or 0, layer by layer as in the paper (section 5). They
  are for its pixels, from 0 to 255 less the mean (`normalize="raw_mean"`): without BatchNorm the scale
  matters. Divided by 255 the first layer's outputs have an RMS of 0.04, and the second layer is its bias.
- For the paper's ablations there are `lrn`, `pool_size`, `dropout`, `left_out` (section 7: any middle layer),
  and one tower of half the kernels (section 3.2): `groups=1, width=48, tail_width=96`, for footnote 2 keeps
  the last convolution, and so the fully connected layers, as they are. `stem="small"` and `kernel_init` are
  ours, for small images and short training.

`alexnet_torchvision` is torchvision's, after Krizhevsky, "One weird trick for parallelizing convolutional
neural networks", 2014 (arXiv 1404.5997): 64-192-384-256-256 filters, no towers, no normalisation, adaptive
average pooling, dropout before the first two fully connected layers, and weights and biases from U(-a, a)
with a = 1 / sqrt(fan-in), PyTorch's default.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_image_size, check_rates
from cnnjax.models.network import ConvNetwork, scale_filters
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import INITS, normal, uniform
from cnnjax.ops.lrn import ALPHA_PER, local_response_norm
from cnnjax.ops.pooling import adaptive_average_pool, max_pool
from cnnjax.ops.precision import wide

PADDINGS = {227: 0, 224: 2}
"""The first convolution's padding by the image's side; both give 55x55."""
SMALLEST = 15
"""Side of the smallest images that the small stem takes."""
STEMS = ("imagenet", "small")
MIDDLE = (2, 3, 4, 5)
"""The convolutions that can be left out."""
LRN_ACROSS = ("tower", "all")
LRN_AFTER = ("activation", "pooling")


class AlexNet(ConvNetwork, kw_only=True):
    """Figure 2: five convolutions and three fully connected layers. 60,965,224 parameters.

    Attributes:
        width: filters of the first convolution in both towers; the other layers keep their ratio to it.
        groups: number of towers, 2 in the paper; 1 connects everything.
        lrn: whether to apply local response normalisation (section 3.3).
        lrn_alpha_per: whether its alpha multiplies the "sum" or the "mean" of the squares.
        lrn_k: what it adds to the weighted squares.
        lrn_across: the channels among which it has its neighbours, those of a "tower" or "all".
        lrn_after: the layer that it follows, "activation" or "pooling".
        pool_size: side of the pooling windows, which are 2 pixels apart: 3 overlap, 2 do not (section 3.4).
        dropout: rate after each hidden fully connected layer.
        stem: the first convolution, "imagenet", 11x11 with strides of 4, or "small", 5x5 with strides of 1.
        left_out: the numbers of the convolutions that are not there, of 2 to 5.
        tail_width: the width to which the fifth convolution and the fully connected layers keep their ratio;
            None takes `width`.
        kernel_init: "paper" is N(0, 0.01 * 0.01); or a name in `cnnjax.ops.init.INITS`.
    """

    width: int = 96
    groups: int = 2
    num_classes: int = 1000
    lrn: bool = True
    lrn_alpha_per: str = "sum"
    lrn_k: float = 2.0
    lrn_across: str = "tower"
    lrn_after: str = "activation"
    pool_size: int = 3
    dropout: float = 0.5
    stem: str = "imagenet"
    left_out: tuple[int, ...] = ()
    tail_width: int | None = None
    kernel_init: str = "paper"

    choices: ClassVar[Mapping[str, Any]] = {
        **ConvNetwork.choices,
        "stem": STEMS,
        "kernel_init": ("paper", *INITS),
        "lrn_alpha_per": ALPHA_PER,
        "lrn_across": LRN_ACROSS,
        "lrn_after": LRN_AFTER,
    }
    input_shape: ClassVar[tuple[int, int, int]] = (227, 227, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width", "groups")
        check_rates(self, "dropout")
        if self.width % self.groups:
            raise UserError(f"width={self.width}: must be a multiple of groups={self.groups}")
        if self.tail_width is not None:
            check_at_least_one(self, "tail_width")
        if not set(self.left_out) <= set(MIDDLE):
            raise UserError(f"left_out={self.left_out}: must be of the convolutions 2, 3, 4 and 5")
        if self.pool_size not in (2, 3):
            raise UserError(f"pool_size={self.pool_size}: must be 3 or 2")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, 227 or 224, same, channel] to logits [batch, num_classes], float32 or wider.

        With the small stem they have any sides of at least 15.

        Raises:
            UserError: the images have another size.
        """
        act = ACTIVATIONS[self.activation]
        init = INITS.get(self.kernel_init, normal(0.01))
        conv, dense = self.conv(kernel_init=init), self.dense(kernel_init=init)
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        one = nn.initializers.ones

        def filters(paper: int, width: int = self.width) -> int:
            return self.groups * scale_filters(width / (96 * self.groups), paper)

        def normalize(x: jax.Array) -> jax.Array:
            parts = {"tower": self.groups, "all": 1}[self.lrn_across]
            channels = x.reshape(*x.shape[:-1], parts, -1)
            return local_response_norm(channels, 5, 1e-4, 0.75, self.lrn_k, self.lrn_alpha_per).reshape(
                x.shape
            )

        def respond(x: jax.Array) -> jax.Array:
            x = normalize(x) if self.lrn and self.lrn_after == "activation" else x
            x = max_pool(x, self.pool_size, 2)
            return normalize(x) if self.lrn and self.lrn_after == "pooling" else x

        def middle(number: int, x: jax.Array, features: int, size: int, **fields: Any) -> jax.Array:
            if number in self.left_out:
                return x
            template = conv(features, (size, size), padding=size // 2, **fields, name=f"conv{number}")
            return act(name=f"act{number}")(template(x))

        x = respond(act(name="act1")(conv(self.width, **self.first_layer(x), name="conv1")(x)))
        towers = {"feature_group_count": self.groups, "bias_init": one}
        tail = self.tail_width or self.width
        x = respond(middle(2, x, filters(256), 5, **towers))
        x = middle(3, x, filters(384), 3)
        x = middle(4, x, filters(384), 3, **towers)
        x = middle(5, x, filters(256, tail), 3, **towers)
        x = max_pool(x, self.pool_size, 2)
        x = x.reshape(len(x), -1)
        for index in (6, 7):
            x = dense(filters(4096, tail), bias_init=one, name=f"fc{index}")(x)
            x = dropout()(act(name=f"act{index}")(x))
        return self.classify(x, init, name="fc8")

    def first_layer(self, x: jax.Array) -> dict[str, Any]:
        """Return what the stem's convolution of images [batch, height, width, channel] is like."""
        if self.stem == "small":
            check_image_size(x, SMALLEST)
            return {"kernel_size": (5, 5), "padding": 2}
        height, width = x.shape[1:3]
        if height != width or height not in PADDINGS:
            raise UserError(
                f"alexnet takes images of 227x227 or 224x224: not {height}x{width}; stem='small' takes others"
            )
        return {"kernel_size": (11, 11), "strides": 4, "padding": PADDINGS[height]}


class AlexNetTorchvision(ConvNetwork, kw_only=True):
    """One tower, no normalisation, a first layer two thirds as wide. 61,100,840 parameters.

    Attributes:
        width: filters of the first convolution; the other layers keep their ratio to it.
        dropout: rate before each hidden fully connected layer.
    """

    width: int = 64
    num_classes: int = 1000
    dropout: float = 0.5

    input_shape: ClassVar[tuple[int, int, int]] = (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: a side of the images is below 63 pixels.
        """
        check_image_size(x, 63)
        act = ACTIVATIONS[self.activation]
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        filters = partial(scale_filters, self.width / 64)

        def conv(index: int, x: jax.Array, features: int, size: int, strides: int, padding: int) -> jax.Array:
            init = uniform((size * size * x.shape[-1]) ** -0.5)
            template = self.conv(kernel_init=init, bias_init=init)
            x = template(filters(features), (size, size), strides, padding=padding, name=f"conv{index}")(x)
            return act(name=f"act{index}")(x)

        def dense(index: int, x: jax.Array, features: int) -> jax.Array:
            init = uniform(x.shape[-1] ** -0.5)
            return self.dense(kernel_init=init, bias_init=init)(features, name=f"fc{index}")(x)

        x = max_pool(conv(1, x, 64, 11, 4, 2), 3, 2)
        x = max_pool(conv(2, x, 192, 5, 1, 2), 3, 2)
        x = conv(3, x, 384, 3, 1, 1)
        x = conv(4, x, 256, 3, 1, 1)
        x = max_pool(conv(5, x, 256, 3, 1, 1), 3, 2)
        x = adaptive_average_pool(x, 6)
        x = x.reshape(len(x), -1)
        for index in (6, 7):
            x = act(name=f"act{index}")(dense(index, dropout()(x), filters(4096)))
        return dense(8, x, self.num_classes).astype(wide(self.dtype))


@register("alexnet", AlexNet)
def alexnet(**fields: Any) -> AlexNet:
    """Krizhevsky et al. 2012, figure 2: two towers, local response normalisation, overlapping pooling."""
    return AlexNet(**fields)


@register("alexnet_torchvision", AlexNetTorchvision)
def alexnet_torchvision(**fields: Any) -> AlexNetTorchvision:
    """Krizhevsky 2014, "One weird trick", as in torchvision: one tower, no normalisation."""
    return AlexNetTorchvision(**fields)
