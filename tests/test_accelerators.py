"""What the compilers of accelerators make of a training step, for those who have the extras tpu and cuda.

The figures are those of jax 0.10.2. Each compilation takes a quarter of a minute to two.
"""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

import cnnjax

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(jax.__version_info__[:2] != (0, 10), reason="the figures are of jax 0.10"),
]
needs_gpu = pytest.mark.skipif(
    importlib.util.find_spec("jax_plugins.xla_cuda13") is None, reason="needs the extra cuda"
)
needs_tpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra tpu")
PLAN = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from cnnjax.config import Config
from cnnjax.counting.plan import plan
fields, where = json.loads(sys.argv[1])
found = plan(Config(data="", **fields), **where)
print(json.dumps({
    "exchanges": {kind: one.count for kind, one in found.exchanges.items()},
    "convolutions": dict(found.convolutions), "fits": found.fits, "bound_by": found.bound_by,
    "parameters": found.parameters}))
"""


def planned(topology, **fields):
    """In a process of its own, with all optimisations."""
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    given = json.dumps([fields, {"topology": topology}])
    command = [sys.executable, "-c", PLAN, given]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_gpu
@pytest.mark.parametrize(("group", "reduced"), [(None, 4 * 55 + 1), (32, 2)])
def test_exchanges_of_resnet56_on_eight_h100(group, reduced):
    """Four for each of 55 BatchNorms and one for all the rest; or one for each type of what is summed."""
    found = planned("h100:8", model="resnet56", batch_size=1024, dtype="bfloat16", bn_group_size=group)
    assert found["exchanges"] == {"all-reduce": reduced}
    # All 55 convolutions, but for the images' gradient of the first.
    kinds = {"cudnn convForward": 55, "cudnn convBackwardInput": 54, "cudnn convBackwardFilter": 55}
    assert found["convolutions"] == kinds
    assert found["parameters"] == cnnjax.summary("resnet56").parameters
    assert found["fits"]
    assert found["bound_by"] == "memory"


@needs_tpu
def test_statistics_of_groups_cost_no_exchange_on_tpus():
    """Of a small net: one all-reduce of bfloat16 and one of float32."""
    small = {"model": "resnet8", "batch_size": 64, "dtype": "bfloat16"}
    assert planned("v5e:2x4", **small, bn_group_size=8)["exchanges"] == {"all-reduce": 2}
    assert planned("v5e:2x4", **small)["exchanges"]["all-reduce"] > 2 * 7
