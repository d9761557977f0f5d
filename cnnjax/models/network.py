"""What the networks share: a few fields, their checks, and the layers that these fields configure.

All fields are keyword-only, so a base class may have defaults where a network has none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_choices
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.norm import BatchNorm
from cnnjax.ops.precision import types, wide

Template = Callable[..., Any]
"""A layer that still lacks some fields, such as its filters and its name."""


class Network(nn.Module, kw_only=True):
    """A classifier of images. `input_shape` is the [height, width, channel] of its source's images.

    Attributes:
        num_classes: outputs of the classifier.
        activation: a name in `cnnjax.ops.activations.ACTIVATIONS`.
        dtype: type of the computation; parameters, statistics and logits stay float32 or wider.
    """

    num_classes: int
    activation: str = "relu"
    dtype: Any = jnp.float32

    choices: ClassVar[Mapping[str, Any]] = {"activation": ACTIVATIONS}
    """The values that a field may have, for fields that are a choice; a subclass adds its own."""

    def __post_init__(self) -> None:
        check_choices(self, **self.choices)
        check_at_least_one(self, "num_classes")
        super().__post_init__()

    def dense(self, **fields: Any) -> Template:
        """Return a template of a fully connected layer."""
        return partial(nn.Dense, **types(self.dtype), **fields)

    def classify(self, x: jax.Array, kernel_init: Template, name: str = "classifier") -> jax.Array:
        """Features [batch, channel] to logits [batch, num_classes], float32 or wider."""
        return self.dense(kernel_init=kernel_init)(self.num_classes, name=name)(x).astype(wide(self.dtype))


class ConvNetwork(Network, kw_only=True):
    """A network of convolutions.

    Attributes:
        convolution: its implementation, "auto", "direct", "canonical" or "native" (`cnnjax.ops.conv`).
    """

    convolution: str = "auto"

    choices: ClassVar[Mapping[str, Any]] = {**Network.choices, "convolution": CONVOLUTIONS}

    def conv(self, **fields: Any) -> partial[nn.Conv]:
        """Return a template of a convolution."""
        convolution = CONVOLUTIONS[self.convolution]
        return partial(nn.Conv, **types(self.dtype), conv_general_dilated=convolution, **fields)


class BatchNormNetwork(ConvNetwork, kw_only=True):
    """A network of convolutions that has, or can have, batch normalisation.

    Attributes:
        bn_momentum: decay of BatchNorm's running averages.
        bn_epsilon: what BatchNorm adds to the variance.
        bn_group_size: images that BatchNorm normalises together, as devices that do not communicate do with
            their parts of a batch; None takes the whole batch.
    """

    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    bn_group_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bn_group_size is not None:
            check_at_least_one(self, "bn_group_size")
        if not 0 <= self.bn_momentum < 1:
            raise UserError(f"bn_momentum={self.bn_momentum}: must be in [0, 1), such as 0.9")

    def batch_norm(self, train: bool) -> Template:
        """Return a template of BatchNorm, which normalises by the batch's own statistics in training."""
        return partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            group_size=self.bn_group_size,
            dtype=self.dtype,
        )

    def layer_norm(self) -> Template:
        """Return a template of LayerNorm over all axes of a sample, with a scale and bias for each channel.

        That is GroupNorm of one group (Wu and He 2018, arXiv 1803.08494, section 3.1).
        """
        return partial(nn.GroupNorm, num_groups=1, epsilon=self.bn_epsilon, **types(self.dtype))


def scale_filters(ratio: float, filters: int) -> int:
    """Return `ratio` times the paper's number of `filters`, rounded, at least 1."""
    return max(1, round(ratio * filters))
