"""A network small enough to differentiate by brute force."""

from functools import partial

from flax import linen as nn

from cnnjax.ops.conv import CONVOLUTIONS
from cnnjax.ops.norm import BatchNorm


class TwoConvolutions(nn.Module):
    """Two convolutions as all networks have them, with BatchNorm; three classes."""

    filters: tuple[int, int] = (3, 4)
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train):
        conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, conv_general_dilated=CONVOLUTIONS["auto"])
        norm = partial(BatchNorm, use_running_average=not train, momentum=self.momentum)
        for index, filters in enumerate(self.filters, start=1):
            x = conv(filters, name=f"conv{index}")(x)
            x = nn.relu(norm(name=f"bn{index}")(x))
        return nn.Dense(3, name="classifier")(x.mean((1, 2)))
