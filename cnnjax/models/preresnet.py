"""Pre-activation residual networks: BN and ReLU before each convolution.

He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", 2016 (arXiv 1603.05027): the CIFAR nets
of tables 2 to 4 and the ImageNet nets of table 5. They are ResNets with another `order` of layers. All five
orders of table 2 are values of that field, and all shortcuts of table 1 are values of `shortcut`, in ResNets
and pre-activation ResNets of any depth:

    build("resnet110", order="bn_after_addition")
    build("resnet110", shortcut="exclusive_gating", gate_bias=-6.0)
    build("resnet110", shortcut="constant_scaling", shortcut_scale=0.5, branch_scale=0.5)
    build("resnet110", shortcut="C")  # a 1x1 convolution in every block

The first block's activation comes right after the first convolution, before the paths split, and one more BN
and ReLU follow the last block (appendix). A shortcut that changes the shape takes the branch's activated
input; any other takes the block's raw input.

Basic blocks for CIFAR have shortcuts A, as in the paper. Bottlenecks have projections where the number of
channels changes, without BatchNorm, and the stride in the first 1x1, as in the authors' code. The ImageNet
nets are those of fb.resnet.torch: the same projections in basic blocks too, and the stride of a bottleneck in
its 3x3. The paper prints 10.2 M parameters for `preresnet1001`; its code has 10,327,706.
"""

from typing import Any

from cnnjax.models.registry import register
from cnnjax.models.resnet import CIFAR, CIFAR_BOTTLENECK, IMAGENET_STAGES, ResNet, residual_shape


@register("preresnet{depth}", ResNet, (*IMAGENET_STAGES, *CIFAR, *CIFAR_BOTTLENECK))
def preresnet(depth: int, **fields: Any) -> ResNet:
    """He et al. 2016, pre-activation net (CIFAR: any 6n + 2, 9n + 2; ImageNet: 18, 34, 50, 101, 152, 200)."""
    return ResNet(**{**preresnet_fields("preresnet", depth), **fields})


def preresnet_fields(family: str, depth: int) -> dict[str, Any]:
    """Return the fields of the pre-activation net of this depth."""
    shape = residual_shape(family, depth)
    imagenet = depth in IMAGENET_STAGES
    return {
        **shape,
        "order": "full_preactivation",
        "shortcut": "B_without_bn" if imagenet or shape["block"] == "bottleneck" else "A",
        "strides_at": "3x3" if imagenet else "1x1",
    }
