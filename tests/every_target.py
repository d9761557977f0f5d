"""Compile a training step of every family of networks for every kind of accelerator, and look into it.

    python -m tests.every_target --out docs/reference/every_target.md

takes hours of a core, and goes on where it was stopped (its findings are kept beside the table). Networks are
as narrow and images as small as they can be, with at most two blocks in a stage; each family's first listed
name. It needs the extras `tpu` and `cuda`.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax

import cnnjax
from cnnjax.counting.exchanges import exchanges
from cnnjax.counting.faults import REMATERIALISED, compiler_said, faults, transposes
from cnnjax.counting.hlo import Program as Compiled
from cnnjax.counting.topology import open_topology
from cnnjax.data.synthetic import synthetic
from cnnjax.mesh import make_mesh
from cnnjax.models import registry
from cnnjax.recipes import Objects, resolve
from cnnjax.training.program import Program
from tests.nets import CLASSES, narrow

TARGETS = ("h100:8", "v5e:2x2", "cpu:8")
SETTINGS = (("replicated", "bfloat16"), ("fsdp", "float32"), ("replicated", "float32"), ("fsdp", "bfloat16"))
BATCH = 8 * 19  # no layer has 19 or 38 channels or places, which tells images from kernels
BLOCKS = 2  # in a stage, at most: the first, and one like all the others
FAST = {"cpu": {"xla_backend_optimization_level": 0}}  # machine code is not looked at


def families():
    """The first listed name of each family."""
    return list(dict.fromkeys(entry.listed[0] for entry in registry._ENTRIES if entry.listed))


def examine(name, topology, shard, dtype):
    """One row: what was found, how long it took."""
    model, image = narrow(name)
    model = shallow(model).clone(dtype=jax.numpy.dtype(dtype))
    data = synthetic(train=BATCH, test=BATCH, size=image[0], classes=CLASSES)
    if image[2] == 1:
        data = grey(data)
    config = cnnjax.Config(batch_size=BATCH, augment="none", dtype=dtype)
    task = resolve(config, Objects(model=model, data=data))
    opened, platform = open_topology(topology), topology.partition(":")[0]
    program = Program(task, make_mesh(devices=opened.devices), shard)
    start = time.perf_counter()
    with compiler_said() as said:
        compiled = program.trace().lower().compile({**dict(opened.options), **FAST.get(platform, {})})
    seconds = time.perf_counter() - start
    found = Compiled(compiled.as_text())
    stacked = jax.eval_shape(program.lay_out, program.state_shapes.params)
    sizes = {leaf.size for leaf in jax.tree.leaves((program.state_shapes.params, stacked))}
    wrong = faults(found, platform, sizes)
    wrong += ["involuntary full rematerialisation"] * any(REMATERIALISED in line for line in said)
    return {
        "faults": wrong,
        "exchanges": {kind: one.count for kind, one in exchanges(found).items()},
        "transposes": len(transposes(found, BATCH // len(opened.devices))),
        "seconds": round(seconds, 1),
    }


def shallow(model):
    """The network with few blocks in each stage, if it has blocks."""
    sizes = {name: getattr(model, name, ()) for name in ("stage_sizes", "block_sizes")}
    return model.clone(**{name: tuple(min(BLOCKS, one) for one in own) for name, own in sizes.items() if own})


def grey(data):
    """The data set with one channel."""
    return dataclasses.replace(
        data, train_images=data.train_images[..., :1], test_images=data.test_images[..., :1]
    )


def table(rows):
    """Markdown: a line for each family, a column for each target and setting."""
    columns = list(dict.fromkeys(tuple(key.split(" ")[1:]) for key in rows))
    lines = [
        "| network | " + " | ".join(" ".join(column) for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in dict.fromkeys(key.split(" ")[0] for key in rows):
        cells = [rows.get(" ".join((name, *column))) for column in columns]
        lines.append(f"| `{name}` | " + " | ".join(map(cell, cells)) + " |")
    return "\n".join(lines)


def cell(row):
    """Exchanges by their first letters, and what is wrong."""
    if row is None:
        return ""
    if "error" in row:
        return f"**fails: {row['error']}**"
    letters = {"all-reduce": "r", "all-gather": "g", "reduce-scatter": "s", "all-to-all": "a"}
    letters["collective-permute"] = "p"
    counts = " ".join(f"{count}{letters[kind]}" for kind, count in row["exchanges"].items()) or "0"
    moved = f", {row['transposes']}t" if row["transposes"] else ""
    return counts + moved + "".join(f", **{fault}**" for fault in row["faults"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/reference/every_target.md"))
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--settings", type=int, default=4, help="how many of the four to compile")
    parser.add_argument("--networks", nargs="+", default=None)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    kept = args.out.with_suffix(".json")
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    for shard, dtype in SETTINGS[: args.settings]:
        for topology in args.targets:
            for name in args.networks or families():
                key = f"{name} {topology} {shard} {dtype}"
                if key in rows and "error" not in rows[key]:
                    continue
                try:
                    rows[key] = examine(name, topology, shard, dtype)
                except Exception as error:
                    rows[key] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
                print(key, rows[key], flush=True)
                kept.write_text(json.dumps(rows, indent=1))
                args.out.write_text(head() + table(rows) + "\n")


def head():
    return f"""# A training step of every family, compiled for every kind of accelerator

By `python -m tests.every_target`, with jax {jax.__version__}: narrow networks of at most {BLOCKS} blocks
in a stage, batch {BATCH}. In a cell stand a step's exchanges: r all-reduces, g all-gathers,
s reduce-scatters, a all-to-alls, p collective permutes; t are launches that only transpose or copy
images; in bold what should not be: float64, host callbacks, our CPU code elsewhere,
activations gathered, XLA's involuntary full rematerialisation. Both ways to hold the state and both types
are there; their other two combinations are compiled too unless stopped with `--settings 2`, as here.

"""


if __name__ == "__main__":
    main()
