"""Count the exchanges of a training step before and after XLA merges them.

    python -m tests.merging

compiles ResNet-56 and ResNet-50 in bfloat16 with both kinds of BatchNorm's statistics, for 8 GPUs and for 256
TPU chips, and prints a line each. This takes a quarter of an hour or more, and the extras `tpu` and `cuda`.
"""

import tempfile
from pathlib import Path

import jax

from cnnjax.config import Config
from cnnjax.counting.exchanges import exchanges
from cnnjax.counting.hlo import Program as Compiled
from cnnjax.counting.topology import open_topology
from cnnjax.data.stand_in import natural, stand_in
from cnnjax.mesh import make_mesh
from cnnjax.models import build
from cnnjax.recipes import Objects, resolve
from cnnjax.training.program import Program

NETWORKS = ("resnet56", "resnet50")
BATCHES = {"h100:8": {"resnet56": 1024, "resnet50": 2048}, "v5e:16x16": {"resnet56": 8192, "resnet50": 8192}}
GROUPS = (None, 32)


def lower(topology, **fields):
    """A run's step before it is compiled, and the options of its compiler."""
    opened = open_topology(topology)
    data = stand_in(natural(build(fields["model"]).input_shape))
    task = resolve(Config(**fields), Objects(data=data))
    return Program(task, make_mesh(devices=opened.devices)).trace().lower(), dict(opened.options)


def merged(topology, **fields):
    """Exchanges by kind of a run's step, before and after they are merged."""
    lowered, options = lower(topology, **fields)
    with tempfile.TemporaryDirectory() as folder:
        dump = {
            "xla_dump_to": folder,
            "xla_dump_hlo_as_text": True,
            "xla_dump_hlo_pass_re": ".*all-reduce-combiner",
        }
        compiled = lowered.compile({**options, **dump})
        first = min(Path(folder).glob("*before_*all-reduce-combiner.txt"))
        return exchanges(Compiled(first.read_text())), exchanges(Compiled(compiled.as_text()))


def main():
    jax.config.update("jax_platforms", "cpu")
    for topology, batches in BATCHES.items():
        for model in NETWORKS:
            for group in GROUPS:
                settings = {"model": model, "batch_size": batches[model], "bn_group_size": group}
                found = merged(topology, dtype="bfloat16", **settings)
                print(topology, *settings.values(), *map(text, found), sep=" | ", flush=True)


def text(found):
    return ", ".join(f"{one.count} {kind} of {one.bytes / 2**20:.1f} MiB" for kind, one in found.items())


if __name__ == "__main__":
    main()
