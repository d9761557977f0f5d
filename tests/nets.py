"""Small networks: one to differentiate by brute force, and the papers' as narrow as they can be."""

import re
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models import build
from cnnjax.models.registry import find
from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.norm import BatchNorm
from cnnjax.ops.precision import types


class TwoConvolutions(nn.Module):
    """Two convolutions as all networks have them, with BatchNorm; three classes."""

    filters: tuple[int, int] = (3, 4)
    momentum: float = 0.9
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        conv = partial(
            nn.Conv,
            kernel_size=(3, 3),
            padding=1,
            conv_general_dilated=CONVOLUTIONS["auto"],
            **types(self.dtype),
        )
        norm = partial(BatchNorm, use_running_average=not train, momentum=self.momentum, dtype=self.dtype)
        for index, filters in enumerate(self.filters, start=1):
            x = conv(filters, name=f"conv{index}")(x)
            x = nn.relu(norm(name=f"bn{index}")(x))
        return nn.Dense(3, **types(self.dtype), name="classifier")(x.mean((1, 2)))


CLASSES = 4
WIDTHS = {  # narrowest that still has every layer, by the beginning of the name
    r"alexnet$|zfnet": 6, r"vgg": 2, r"nin": 16, r"googlenet|(se_)?bn_inception": 8, r"lenet5_modern": 3,
    r"resnext\d+_\d+x[48]d|se_resnext": 16, r"senet154": 32, r"wrn": 1, r"highway": 8, r"looks_linear": 8,
}  # fmt: skip
SIDES = {
    r"alexnet_cifar|cuda": 16,
    r"alexnet$": 224,
    r"alexnet": 63,
    r"googlenet_t": 64,
    r"(se_)?bn_inc": 64,
    r"nin_i": 64,
    r"inception_v3": 299,  # its auxiliary head takes no other
}


def narrow(name):
    """The network `name` and the shape of its images, both as small as they can be; four classes."""
    known = find(name)[0].module.__dataclass_fields__
    fields = {"width": _lookup(WIDTHS, name, 4), "loop": "scan", "reduction": 1, "drop_path": 0}
    if "stochastic" in name:
        fields["survival"] = 1 - 1e-6  # an absent branch has no gradient
    model = build(name, num_classes=CLASSES, **{key: fields[key] for key in fields.keys() & known.keys()})
    natural, *_, channels = model.input_shape
    by_stem = {"cifar": 8, "imagenet": 32}.get(getattr(model, "stem", ""), natural)
    side = _lookup(SIDES, name, by_stem)
    return model, (side, side, channels)


def _lookup(table, name, default):
    return next((value for pattern, value in table.items() if re.match(pattern, name)), default)
