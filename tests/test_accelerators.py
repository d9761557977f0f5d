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
    importlib.util.find_spec("jax_plugins") is None
    or importlib.util.find_spec("jax_plugins.xla_cuda13") is None,
    reason="needs the extra cuda",
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
MERGED = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from tests.merging import merged
topology, fields = json.loads(sys.argv[1])
print(json.dumps([{kind: one.count for kind, one in found.items()} for found in merged(topology, **fields)]))
"""
TRANSPOSED = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from cnnjax.counting.faults import transposes
from cnnjax.counting.hlo import Program
from tests.merging import lower
topology, fields = json.loads(sys.argv[1])
lowered, options = lower(topology, **fields)
found = Program(lowered.compile(options).as_text())
convolutions = sum("conv" in operation.target.lower() for operation, _ in found.launched())
print(json.dumps([convolutions, [one.text for one in transposes(found, fields["batch_size"])]]))
"""


def start(program, *arguments):
    """A process of its own, with all optimisations."""
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def result(process):
    said, complaints = process.communicate()
    assert process.returncode == 0, complaints
    return json.loads(said)


def planned(topology, **fields):
    return result(start(PLAN, fields, {"topology": topology}))


@needs_gpu
@pytest.mark.parametrize(("group", "reduced"), [(None, 3 * 55 + 1), (32, 2)])
def test_exchanges_of_resnet56_on_eight_h100(group, reduced):
    """Three for each of 55 BatchNorms and one for all the rest; or one for each type of what is summed."""
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


@needs_gpu
def test_images_of_resnet50_are_never_transposed_on_an_h100():
    """They are [image, height, width, channel] for all convolutions, as cuDNN's tensor cores take them."""
    found = result(start(TRANSPOSED, "h100:1", {"model": "resnet50", "batch_size": 80, "dtype": "bfloat16"}))
    assert found == [53 + 52 + 53, []]  # forward, by the images (but for the first) and by the kernels


@pytest.mark.parametrize(
    "topology", [pytest.param("h100:8", marks=needs_gpu), pytest.param("v5e:2x4", marks=needs_tpu)]
)
@pytest.mark.parametrize("group", [None, 8])
def test_what_is_merged(topology, group):
    """Each array is summed by itself at first: gradients, loss and error, and BatchNorm's statistics.

    These are the mean and the variance, within a step or, where groups have their own, for the averages.
    """
    fields = {"model": "resnet8", "batch_size": 64, "bn_group_size": group, "dtype": "bfloat16"}
    before, _ = result(start(MERGED, topology, fields))
    convolutions, norms, classifier, metrics = 7, 7, 2, 2
    assert before == {"all-reduce": convolutions + (2 + 2) * norms + classifier + metrics}


@needs_tpu
def test_two_processes_compile_for_tpus_at_once():
    """Libtpu lets one process at a time have its chips; none are needed."""
    small = {"model": "resnet8", "model_options": {"width": 2, "stage_sizes": [1]}, "batch_size": 8}
    both = [start(PLAN, small, {"topology": "v5e:2x2"}) for _ in range(2)]
    first, second = map(result, both)
    assert first == second
