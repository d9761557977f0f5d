import numpy as np
import pytest

from cnnjax.errors import Diverged
from cnnjax.training.divergence import check_weights


@pytest.mark.parametrize("value", [1e20, np.inf, np.nan])
def test_weights_that_float32_cannot_hold_are_divergence(value, tmp_path):
    tree = {"conv1": {"kernel": np.full((3, 3), 1e18, np.float32)}}
    check_weights({"params": tree, "batch_stats": {}}, 3, tmp_path)
    tree["conv2"] = {"kernel": np.array([0, value], np.float32)}
    with pytest.raises(Diverged, match="params are too large for float32 after step 3"):
        check_weights({"params": tree, "batch_stats": {}}, 3, tmp_path)
