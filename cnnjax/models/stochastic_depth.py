"""Residual networks with stochastic depth.

Huang, Sun, Liu, Sedra and Weinberger, "Deep Networks with Stochastic Depth", 2016 (arXiv 1603.09382): in
training a block's branch survives with a probability that falls linearly from 1 at the input to `survival`,
0.5, at the last block (equation 4), drawn once a batch; at test time it is multiplied by that probability
(equation 5). `survival` is a field of all residual nets.

As in the authors' code for ResNet-110, up to that depth convolutions have biases besides BatchNorm's and
initial weights scaled by fan-in, and shortcuts subsample by 2x2 average pooling. They trained deeper nets
with fb.resnet.torch, which does none of this. Their code skips a branch that does not survive; here it is
computed and multiplied by 0, which gives the same function and gradient, except that BatchNorm's running
averages see every batch.
"""

from typing import Any

from cnnjax.models.registry import register
from cnnjax.models.resnet import ResNet, resnet


@register("resnet{depth}_stochastic_depth", ResNet, (110, 1202))
def resnet_stochastic_depth(depth: int, **fields: Any) -> ResNet:
    """Huang et al. 2016, residual net with stochastic depth (the depths of `resnet{depth}`)."""
    own = {"shortcut": "A_pooled", "use_bias": True, "kernel_init": "he_fan_in"} if depth <= 110 else {}
    return resnet(depth, **{"survival": 0.5, **own, **fields})
