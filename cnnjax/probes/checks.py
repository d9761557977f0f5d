"""What is given to a probe."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn

from cnnjax.errors import UserError, short


def unpack(model: Any, variables: Any, batch: Any) -> tuple[Any, Any]:
    """The images [sample, ...] and labels [sample] of a batch.

    Raises:
        UserError: that is no batch, `model` no module, or `variables` not what its `init` gives.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model={short(model)}: must be a network, such as cnnjax.build('resnet20')")
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise UserError(
            f"variables={short(variables)}: must have 'params', as model.init(...) and result.variables have"
        )
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise UserError(f"batch={short(batch)}: must be (images, labels)")
    images, labels = batch
    if np.ndim(images) < 2 or np.ndim(labels) != 1 or len(images) != len(labels):
        raise UserError(
            f"batch: images of shape {np.shape(images)} and labels of shape {np.shape(labels)}; "
            "must be [sample, height, width, channel] and [sample]"
        )
    return images, labels
