"""What a run would need and exchange on accelerators that are not here, from their own compilers."""

import dataclasses
import functools
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from cnnjax.config import Config, Shard
from cnnjax.counting.exchanges import Exchange, exchanges
from cnnjax.counting.flops import flops
from cnnjax.counting.hlo import Program as Compiled
from cnnjax.counting.roofline import roofline
from cnnjax.counting.topology import Topology, open_topology
from cnnjax.data.stand_in import natural, stand_in
from cnnjax.machine import free_memory
from cnnjax.mesh import DATA, MODEL, check_divisible, check_shard, make_mesh, parse_mesh
from cnnjax.models import build
from cnnjax.objects import is_object, load_object
from cnnjax.ops import direct
from cnnjax.recipes import Objects, resolve
from cnnjax.terminal import Page, Printable
from cnnjax.training.memory import nbytes
from cnnjax.training.program import Program
from cnnjax.training.task import Task

FRACTION = 0.75  # of a GPU's memory that JAX takes, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise
PRECISE = 16  # the largest batch is sought in steps of a sixteenth of itself


@dataclasses.dataclass(frozen=True)
class Plan(Printable):
    """A training step as an accelerator's compiler made it; `print` shows it, `to_json` gives it as data.

    All but `parameters` is of one device.

    Attributes:
        what: the network and the data.
        config: the run.
        topology: what it was compiled for, such as "h100:8".
        mesh: devices of each axis.
        shard: how the state is divided over them.
        parameters: trainable numbers of the network.
        state_bytes: parameters, what the optimizer keeps, BatchNorm's averages.
        argument_bytes: the state, the data that lies on the device, and a step's inputs.
        temporary_bytes: activations and whatever else lives within a step; None where they are too many for
            the compiler to say.
        device_memory_bytes: what there is.
        usable_bytes: what JAX takes of it by default.
        fits: whether all of it together is no more than that.
        exchanges: by kind, such as "all-reduce".
        flops: of convolutions and matrix products in a step.
        bytes_accessed: that launched operations read and write in the device's memory.
        seconds: that compute, memory and network need at least; empty where no peak is published.
        convolutions: by what computes them, how many.
        compile_seconds: what the compiler took on this machine.
    """

    what: str
    config: Config
    topology: str
    mesh: Mapping[str, int]
    shard: Shard
    parameters: int
    state_bytes: int
    argument_bytes: int
    temporary_bytes: int | None
    device_memory_bytes: int | None
    usable_bytes: int | None
    fits: bool
    exchanges: Mapping[str, Exchange]
    flops: float
    bytes_accessed: int
    seconds: Mapping[str, float]
    convolutions: Mapping[str, int]
    compile_seconds: float
    at_batch: Callable[[int], "Plan"] = dataclasses.field(repr=False, compare=False)
    """The plan of the same run with another batch."""

    @property
    def needed_bytes(self) -> int | None:
        """Arguments and temporaries together."""
        return None if self.temporary_bytes is None else self.argument_bytes + self.temporary_bytes

    @property
    def bound_by(self) -> str | None:
        """Which of compute, memory and network needs longest."""
        return max(self.seconds, key=lambda name: self.seconds[name], default=None)

    @property
    def bound_seconds(self) -> float | None:
        """A bound of the step's time: no step is faster, most are slower."""
        return max(self.seconds.values(), default=None)

    @functools.cached_property
    def largest_batch(self) -> int:
        """The largest batch that fits, to an eighth of itself, by bisection; 0 if not one image a device.

        Each batch that is tried is compiled, so this takes a few times as long as the plan. A compiler for
        TPUs makes larger ones fit by computing activations twice, which is not looked for.
        """
        return _largest_batch(self)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values; this looks for the largest batch."""
        return {
            "parameters": self.parameters,
            "state_bytes": self.state_bytes,
            "argument_bytes": self.argument_bytes,
            "temporary_bytes": self.temporary_bytes,
            "device_memory_bytes": self.device_memory_bytes,
            "fits": self.fits,
            "largest_batch": self.largest_batch,
            "exchanges": {
                kind: {"count": one.count, "bytes": one.bytes} for kind, one in self.exchanges.items()
            },
            "flops": self.flops,
            "bytes_accessed": self.bytes_accessed,
            "bound_seconds": self.bound_seconds,
            "bound_by": self.bound_by,
            "compile_seconds": self.compile_seconds,
            "topology": self.topology,
        }

    def __rich__(self) -> Page:
        """The table."""
        from cnnjax.counting.plan_table import plan_table

        return plan_table(self)


def plan(
    config: Config,
    *,
    topology: str,
    mesh: str | Mesh | None = None,
    shard: Shard = "replicated",
    **objects: Any,
) -> Plan:
    """Compile the training step of a run for devices that need not be here, by their own compiler.

    Nothing is trained, and the data need not be here: a named data set is one of its shapes. Without a name,
    `config.data=""`, it is the one that the network is for. The step is that of `cnnjax.train`, one to a
    dispatch.

    Args:
        config: the run.
        topology: accelerator and devices: "h100:8" (also a100, h200, b200), "v5e:4x4" (also v5p, v6e), or
            "cpu:8", devices of this machine.
        mesh: devices of each axis, such as "data=4,model=2", or a mesh of that shape; all are on the data
            axis when not given.
        shard: how the state is divided over them, a name in `cnnjax.mesh.SHARDS`.
        objects: in the place of the config's names, as `cnnjax.train` takes them.

    Raises:
        UserError: bad input, such as an unknown topology, or the compiler is not installed (`cnnjax[tpu]`,
            `cnnjax[cuda]`).
    """
    opened = open_topology(topology)
    devices = _mesh(mesh, opened)
    check_shard(shard, devices)
    if objects.get("data") is None:
        name = config.data or natural(_input_shape(config, objects.get("model")))
        config = dataclasses.replace(config, data=name)
        objects["data"] = stand_in(name)
    given = Objects(**objects)

    def at_batch(batch_size: int) -> Plan:
        check_divisible(batch_size, devices, runs=1)
        task = resolve(dataclasses.replace(config, batch_size=batch_size), given)
        return _plan(task, Program(task, devices, shard), opened, at_batch)

    return at_batch(config.batch_size)


def _mesh(mesh: str | Mesh | None, topology: Topology) -> Mesh:
    if isinstance(mesh, Mesh):
        return make_mesh(**mesh.shape, devices=topology.devices)
    if mesh is None:
        return make_mesh(devices=topology.devices)
    return parse_mesh(mesh, topology.devices)


def _input_shape(config: Config, model: Any) -> Any:
    """The images that a network says it is for; None if it doesn't."""
    if model is None:
        named = is_object(config.model)
        model = load_object(config.model) if named else build(config.model, **config.model_options)
    shape = getattr(model, "input_shape", None)
    return shape if isinstance(shape, tuple) else None


def _plan(task: Task, program: Program, topology: Topology, at_batch: Callable[[int], Plan]) -> Plan:
    start = time.perf_counter()
    traced = program.trace()
    compiled, used = _compile(traced.lower(), topology)
    seconds = time.perf_counter() - start
    mesh, shard = program.mesh, program.shard
    state = _bytes_here(program.state_shapes, program.placement)
    # Devices along `model` do the same unless the state is divided.
    sharing = mesh.shape[DATA] * (1 if shard == "replicated" else mesh.shape[MODEL])
    operations = {dtype: number / sharing for dtype, number in flops(traced.jaxpr.jaxpr).items()}
    found = Compiled(compiled.as_text() if compiled else "")
    memory = compiled.memory_analysis() if compiled else None
    arguments = memory.argument_size_in_bytes if memory else _arguments(program, state)
    if memory:
        results = memory.output_size_in_bytes - memory.alias_size_in_bytes
        used = arguments + memory.temp_size_in_bytes + results + memory.generated_code_size_in_bytes
    there, usable = _memory(topology)
    name = type(task.network.source).__name__ if "model" in task.in_place else task.config.model
    exchanged, moved = exchanges(found), found.bytes_accessed()
    return Plan(
        what=f"{name} on {task.data.name}",
        config=task.config,
        topology=topology.name,
        mesh=dict(mesh.shape),
        shard=shard,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(program.state_shapes.params)),
        state_bytes=state,
        argument_bytes=arguments,
        temporary_bytes=None if used is None else used - arguments,
        device_memory_bytes=there,
        usable_bytes=usable,
        fits=compiled is not None and used is not None and (usable is None or used <= usable),
        exchanges=exchanged,
        flops=sum(operations.values()),
        bytes_accessed=moved,
        seconds=roofline(operations, moved, exchanged, topology) if compiled else {},
        convolutions=_convolutions(found),
        compile_seconds=seconds,
        at_batch=at_batch,
    )


def _compile(lowered: jax.stages.Lowered, topology: Topology) -> tuple[Any, int | None]:
    """What was compiled; where memory is not there None, and the bytes that are needed if XLA says so."""
    try:
        return lowered.compile(dict(topology.options)), None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = re.search(r"Used ([\d.]+)([KMG]) of [\d.]+[KMG] hbm", str(error))
        return None, said and int(float(said[1]) * 1024 ** (1 + "KMG".index(said[2])))


def _bytes_here(shapes: Any, placement: Any) -> int:
    """Bytes of one run's arrays on one device; the placement is of arrays [run, ...]."""
    sizes = jax.tree.map(
        lambda leaf, own: math.prod(own.shard_shape((1, *leaf.shape))) * leaf.dtype.itemsize,
        shapes,
        placement,
    )
    return sum(jax.tree.leaves(sizes))


def _arguments(program: Program, state: int) -> int:
    data, batch = program.input_source.train_shapes, program.input_source.batch_shapes(1)
    return state + nbytes(data) + nbytes(batch) // program.mesh.shape[DATA]


def _memory(topology: Topology) -> tuple[int | None, int | None]:
    """A device's memory, and what JAX takes of it."""
    if topology.accelerator is None:
        free = free_memory()
        share = None if free is None else free // len(topology.devices)
        return share, share
    there = topology.accelerator.memory
    if topology.accelerator.platform != "cuda":
        return there, there
    return there, int(there * float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", FRACTION)))


def _convolutions(program: Compiled) -> dict[str, int]:
    """Launched operations with a convolution in them, by what computes them."""
    found: Counter[str] = Counter()
    for operation, times in program.launched():
        inside = list(program.within(operation))
        if "conv" in operation.target.lower() or operation.target in direct.CONVOLUTIONS:
            found[operation.target.lstrip("_").replace("$", " ")] += times
        elif any(inner.kind == "convolution" for inner in inside):
            found["XLA, fused" if len(inside) > 1 else "XLA"] += times
        elif "conv_general_dilated" in operation.text and any(inner.kind == "dot" for inner in inside):
            found["as a matrix product"] += times
    return dict(found)


def _largest_batch(plan: Plan) -> int:
    """By bisection, but first a step below where memory would run out if it went on growing as it does.

    To compile what does not fit takes compilers for TPUs many minutes, so that is tried last.
    """
    unit = math.lcm(plan.mesh[DATA], plan.config.bn_group_size or 1)
    before, fits, too_large = None, 0, math.inf  # in units
    probe = max(1, plan.config.batch_size // unit)
    while True:
        known = plan if probe * unit == plan.config.batch_size else plan.at_batch(probe * unit)
        fits, too_large = (probe, too_large) if known.fits else (fits, probe)
        step = max(1, fits // PRECISE)
        guess = _guess(known, before) // unit
        guess -= guess // PRECISE
        if too_large - fits <= step or (before and known.fits and 0 < guess <= fits + step):
            return fits * unit
        before = known if known.fits else before
        half = 2 * fits if too_large == math.inf else (fits + int(too_large)) // 2
        probe = max(fits + step, guess) if 0 < guess < too_large else half


def _guess(known: Plan, before: Plan | None) -> int:
    """Images that would fit, from what the temporaries of one or two batches are; 0 if they are not known."""
    if not known.temporary_bytes or not known.usable_bytes:
        return 0
    images, used = known.config.batch_size, known.temporary_bytes
    if before and before.temporary_bytes and before.config.batch_size != images:
        images, used = images - before.config.batch_size, used - before.temporary_bytes
    left = known.usable_bytes - known.argument_bytes - known.temporary_bytes
    # Working memory of a small batch may be on the chip, which tells little of a large one.
    most = 64 * known.config.batch_size
    return min(most, known.config.batch_size + left * images // used) if used * images > 0 else most
