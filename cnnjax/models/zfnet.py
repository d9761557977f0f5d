"""ZFNet: AlexNet with a finer first layer.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013 (arXiv 1311.2901), figure 3
and table 2: `zfnet` is (a), one dense net; `zfnet_b` is (b), with 512, 1024 and 512 filters in the last three
convolutions.

Figure 3 prints the sizes 110, 55, 26, 13 and 6, but not the padding; one pixel around the image, none for the
second convolution and pooling that rounds up give these sizes. Its contrast normalisation across feature
maps, after pooling, we take to be the local response normalisation of AlexNet, from which the paper starts.
Section 3 initialises all weights to 0.01 and biases to 0; constant weights would all stay equal, so we take
this to be AlexNet's N(0, 0.01 * 0.01). Dropout doubles what it keeps in training instead of halving
everything at test time. The paper's pixels are raw, less the mean, and roughly in [-128, 128]
(`normalize="raw_mean"`): without BatchNorm their scale matters.

The authors scale a convolution's filters back when their RMS exceeds 0.1 (section 3), which matters most in
the first layer: `Config.max_filter_rms`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.network import ConvNetwork, scale_filters
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import normal
from cnnjax.ops.lrn import ALPHA_PER, local_response_norm
from cnnjax.ops.pooling import max_pool


class ZFNet(ConvNetwork, kw_only=True):
    """Figure 3: five convolutions and three fully connected layers.

    Attributes:
        last_filters: filters of the third, fourth and fifth convolution at the paper's width.
        width: filters of the first convolution; all other layers keep their ratio to it.
        lrn_alpha_per: whether the normalisation's alpha multiplies the "sum" or the "mean" of the squares.
        dropout: rate after each hidden fully connected layer.
    """

    last_filters: tuple[int, int, int] = (384, 384, 256)
    width: int = 96
    num_classes: int = 1000
    lrn_alpha_per: str = "sum"
    dropout: float = 0.5

    choices: ClassVar[Mapping[str, Any]] = {**ConvNetwork.choices, "lrn_alpha_per": ALPHA_PER}
    input_shape: ClassVar[tuple[int, int, int]] = (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "width")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, 224, 224, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the images have another size.
        """
        if x.shape[1:3] != (224, 224):
            raise UserError(f"zfnet takes images of 224x224: not {x.shape[1]}x{x.shape[2]}")
        act = ACTIVATIONS[self.activation]
        init = normal(0.01)
        conv, dense = self.conv(kernel_init=init), self.dense(kernel_init=init)
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        normalize = partial(
            local_response_norm, size=5, alpha=1e-4, beta=0.75, k=2.0, alpha_per=self.lrn_alpha_per
        )
        filters = partial(scale_filters, self.width / 96)

        x = conv(self.width, (7, 7), 2, padding=1, name="conv1")(x)
        x = normalize(max_pool(act(name="act1")(x), 3, 2, ceil=True))
        x = conv(filters(256), (5, 5), 2, padding=0, name="conv2")(x)
        x = normalize(max_pool(act(name="act2")(x), 3, 2, ceil=True))
        for index, paper in enumerate(self.last_filters, start=3):
            x = conv(filters(paper), (3, 3), padding=1, name=f"conv{index}")(x)
            x = act(name=f"act{index}")(x)
        x = max_pool(x, 3, 2)
        x = x.reshape(len(x), -1)
        for index in (6, 7):
            x = dense(filters(4096), name=f"fc{index}")(x)
            x = dropout()(act(name=f"act{index}")(x))
        return self.classify(x, init, name="fc8")


@register("zfnet", ZFNet)
def zfnet(**fields: Any) -> ZFNet:
    """Zeiler and Fergus 2013, figure 3 (table 2, "as per Fig. 3")."""
    return ZFNet(**fields)


@register("zfnet_b", ZFNet)
def zfnet_b(**fields: Any) -> ZFNet:
    """Zeiler and Fergus 2013, table 2 (b): layers 3, 4, 5 with 512, 1024, 512 filters."""
    return ZFNet(**{"last_filters": (512, 1024, 512), **fields})
