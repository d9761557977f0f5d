"""BN-Inception: GoogLeNet with batch normalisation and two 3x3 convolutions in place of each 5x5.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", 2015 (arXiv 1502.03167), figure 5. Dropout and local response normalisation are removed, as in section
4.2.1. The figure does not add up in modules 4c and 4d: 576 outputs need a pool projection of 96, but it
prints 128, which makes 608. `projection` is 96, as in the authors' released code, or 128, as in the
widespread Caffe version, which in one form has biases too (`use_bias`; 11,295,240 parameters).

The first convolution is dense, 7x7, as figure 5 lists it and Caffe's versions have it: 11,194,984 parameters.
The appendix says that it is separable with a depth multiplier of 8: `stem="separable"`, where a 7x7
convolution makes 8 maps of each colour, and a 1x1 convolution, without anything in between, 64 of these 24;
so does the recipe `bn_inception`. Section 4.2 gives the net 13.6 million parameters; figure 5 adds up to 11.2
million either way, and no reading of it that we know explains the difference.

The paper prints neither the initial weights nor BatchNorm's epsilon and decay. Here kernels are drawn from
N(0, 2 / fan-in); the released code uses truncated normals with several deviations. Epsilon is 1e-3, as in
that code, and the decay is 0.9. Pooling rounds sizes up, and average pooling counts the padding, as in Caffe.
`activation="sigmoid"` makes the net of BN-x5-Sigmoid (section 4.2.2).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.models.checks import check_at_least_one, check_rates
from cnnjax.models.googlenet import Conv, Inception, LayerTemplates, Step, scaled
from cnnjax.models.network import BatchNormNetwork, Template
from cnnjax.models.registry import register
from cnnjax.ops.activations import ACTIVATIONS
from cnnjax.ops.init import he_normal_fan_in
from cnnjax.ops.pooling import average_pool, max_pool

average = partial(average_pool, size=3, strides=1, padding=1)
maximum = partial(max_pool, size=3, strides=1, padding=1)
downsample = partial(max_pool, size=3, strides=2, ceil=True)


def equal(
    one: int, reduce_three: int, three: int, reduce_double: int, double: int, pool: Step, projection: int
) -> tuple[tuple[Step, ...], ...]:
    """Return the branches of a module that keeps the resolution, given the figure's filter counts."""
    return (
        (Conv(one),),
        (Conv(reduce_three), Conv(three, 3)),
        (Conv(reduce_double), Conv(double, 3), Conv(double, 3)),
        (pool, Conv(projection)),
    )


def halving(reduce_three: int, three: int, reduce_double: int, double: int) -> tuple[tuple[Step, ...], ...]:
    """Return the branches of a module that halves the resolution; one of them only pools."""
    return (
        (Conv(reduce_three), Conv(three, 3, strides=2)),
        (Conv(reduce_double), Conv(double, 3), Conv(double, 3, strides=2)),
        (downsample,),
    )


def modules(projection: int) -> dict[str, tuple[tuple[Step, ...], ...]]:
    """Return the branches of each module by name; `projection` applies to 4c and 4d."""
    return {
        "3a": equal(64, 64, 64, 64, 96, average, 32),
        "3b": equal(64, 64, 96, 64, 96, average, 64),
        "3c": halving(128, 160, 64, 96),
        "4a": equal(224, 64, 96, 96, 128, average, 128),
        "4b": equal(192, 96, 128, 96, 128, average, 128),
        "4c": equal(160, 128, 160, 128, 160, average, projection),
        "4d": equal(96, 128, 192, 160, 192, average, projection),
        "4e": halving(128, 192, 192, 256),
        "5a": equal(352, 192, 320, 160, 224, average, 128),
        "5b": equal(352, 192, 320, 192, 224, maximum, 128),
    }


def dense_stem(conv: Template, layers: LayerTemplates, x: jax.Array) -> jax.Array:
    """One 7x7 convolution, as figure 5 lists it."""
    return layers(x, Conv(64, 7, strides=2), 1)


def separable_stem(conv: Template, layers: LayerTemplates, x: jax.Array) -> jax.Array:
    """The appendix's: 8 maps of each channel, then 64 of these."""
    depthwise = conv(
        8 * x.shape[-1],
        (7, 7),
        2,
        padding=3,
        feature_group_count=x.shape[-1],
        use_bias=False,
        name="conv1_depthwise",
    )
    return layers(depthwise(x), Conv(64), 1)


STEMS = {"separable": separable_stem, "dense": dense_stem}


class BNInception(BatchNormNetwork, kw_only=True):
    """Three convolutions and ten Inception modules, BatchNorm after every convolution.

    Attributes:
        projection: filters of the pool projection in modules 4c and 4d, 96 or 128.
        stem: the first convolution, "dense" (figure 5) or "separable" (the appendix).
        use_bias: whether convolutions have biases besides BatchNorm's.
        dropout: rate before the classifier; the paper removes it.
        width: filters of the first convolution.
        remat: whether the backward pass recomputes a module's activations, to save memory.
    """

    projection: int = 96
    stem: str = "dense"
    use_bias: bool = False
    dropout: float = 0.0
    width: int = 64
    num_classes: int = 1000
    bn_epsilon: float = 1e-3
    remat: bool = False

    choices: ClassVar[Mapping[str, Any]] = {**BatchNormNetwork.choices, "stem": STEMS}
    input_shape: ClassVar[tuple[int, int, int]] = (224, 224, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "projection", "width")
        check_rates(self, "dropout")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [batch, height, width, channel] to logits [batch, num_classes], float32 or wider.

        Raises:
            UserError: the convolutions and the pooling would round the size of the images differently.
        """
        if any(side < 63 or (side + 1) % 32 > 7 for side in x.shape[1:3]):
            raise UserError(
                f"images of {x.shape[1]}x{x.shape[2]} do not fit: sides must be multiples of 32, at least 64 "
                "(one pixel less and up to six more also fit)"
            )
        plain = self.conv(kernel_init=he_normal_fan_in)
        conv = partial(scaled, partial(plain, use_bias=self.use_bias), self.width / 64)
        layers = LayerTemplates(conv, self.batch_norm(train), ACTIVATIONS[self.activation])
        inception = nn.remat(Inception) if self.remat else Inception

        x = STEMS[self.stem](plain, layers, x.astype(self.dtype))
        x = downsample(x)
        x = layers(x, Conv(64), 2)
        x = layers(x, Conv(192, 3), 3)
        x = downsample(x)
        for module, branches in modules(self.projection).items():
            x = inception(branches, layers, self.refine(), name=f"inception{module}")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return self.classify(x, he_normal_fan_in)

    def refine(self) -> Template | None:
        """Return a template of a layer for the end of each module, or None."""
        return None


@register("bn_inception", BNInception)
def bn_inception(**fields: Any) -> BNInception:
    """Ioffe & Szegedy 2015, BN-Inception."""
    return BNInception(**fields)
