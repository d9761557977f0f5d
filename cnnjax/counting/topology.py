"""Accelerators that need not be here: what is published about them, and devices to compile for.

XLA's compilers for TPUs and GPUs run on any CPU. The extras `tpu` and `cuda` bring them.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from cnnjax.errors import UserError, short

GIB = 2**30
NVIDIA_NODE = 8  # GPUs that NVLink connects


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """What the maker publishes about one device.

    Attributes:
        platform: jax's name of it, "tpu", "cuda" or "cpu".
        memory: in bytes.
        bandwidth: of that memory, in bytes a second.
        link: bytes a second that a device sends to its neighbours; to other nodes `far`.
        peak: operations a second by the type of the operands; a product and a sum are two. Where jax's
            default lets the hardware take float32 as TF32 or bfloat16, it is the peak of that.
        source: where this is published.
        target: for GPUs, what XLA's compiler must know besides.
    """

    platform: str
    memory: int
    bandwidth: float
    link: float
    far: float
    peak: Mapping[str, float]
    source: str
    target: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _tpu(name: str, gib: int, bandwidth: float, gigabits: float, peak: float) -> Accelerator:
    link = gigabits * 1e9 / 8
    source = f"https://cloud.google.com/tpu/docs/{name}"
    return Accelerator(
        "tpu", gib * GIB, bandwidth, link, link, dict.fromkeys(("bfloat16", "float32"), peak), source
    )


def _gpu(
    memory: int, bandwidth: float, link: float, bfloat16: float, tf32: float, float64: float, source: str,
    **target: Any,
) -> Accelerator:  # fmt: skip
    peak = {"bfloat16": bfloat16, "float32": tf32, "float64": float64}
    return Accelerator("cuda", memory, bandwidth, link, 50e9, peak, source, target)


_HOPPER = {"cores": 132, "fpus": 128, "clock": 1.98, "l2": 50 * 2**20, "shared": 232_448, "per_core": 233_472,
           "capability": (9, 0)}  # fmt: skip
ACCELERATORS = {
    "v5e": _tpu("v5e", 16, 819e9, 1600, 197e12),
    "v5p": _tpu("v5p", 95, 2765e9, 4800, 459e12),
    "v6e": _tpu("v6e", 32, 1640e9, 3584, 918e12),
    "a100": _gpu(
        80 * GIB - 800 * 2**20, 2039e9, 300e9, 312e12, 156e12, 19.5e12,
        "NVIDIA A100 datasheet, SXM, 80 GB",
        cores=108, fpus=64, clock=1.41, l2=40 * 2**20, shared=166_912, per_core=167_936, capability=(8, 0),
    ),
    "h100": _gpu(
        84_929_347_584, 3352e9, 450e9, 989e12, 494e12, 67e12, "NVIDIA H100 datasheet, SXM, dense", **_HOPPER
    ),
    "h200": _gpu(
        151_397_597_184, 4800e9, 450e9, 989e12, 494e12, 67e12, "NVIDIA H200 datasheet, SXM, dense", **_HOPPER
    ),
    "b200": _gpu(
        191_514_411_008, 7672e9, 900e9, 2250e12, 1125e12, 37e12, "NVIDIA DGX B200 datasheet, dense",
        cores=148, fpus=128, clock=1.965, l2=132_644_864, shared=232_448, per_core=233_472,
        capability=(10, 0),
    ),
}  # fmt: skip
"""Name to published figures; NVIDIA's bandwidths and links are one way, networks 400 Gbit/s for each GPU."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for, which need not be here.

    Attributes:
        name: such as "h100:8".
        devices: jax's, to make a mesh of; nothing can be put on them.
        accelerator: what they are; None for this machine's CPU.
        options: of the compiler.
    """

    name: str
    devices: tuple[Any, ...]
    accelerator: Accelerator | None
    options: Mapping[str, Any]

    @property
    def link(self) -> float | None:
        """Bytes a second that a device sends to others, at most, in an exchange of all."""
        if self.accelerator is None:
            return None
        one_node = self.accelerator.platform != "cuda" or len(self.devices) <= NVIDIA_NODE
        return self.accelerator.link if one_node else self.accelerator.far


def open_topology(name: str) -> Topology:
    """The topology called `name`: "v5e:4x4", TPU chips in a grid; "h100:8", GPUs; "cpu:8" of this machine.

    Raises:
        UserError: there is none of that name, or its compiler is not installed.
    """
    kind, _, size = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == "cpu":
        return _cpu(name, size)
    if kind not in ACCELERATORS:
        raise UserError(
            f"topology={short(name)}: must be one of {', '.join(ACCELERATORS)} or cpu, and its devices, "
            "as in h100:8, v5e:4x4, v5p:2x2x1 or cpu:8"
        )
    accelerator = ACCELERATORS[kind]
    open_one = _open_tpu if accelerator.platform == "tpu" else _open_gpu
    devices, options = open_one(name, accelerator, size)
    return Topology(name, tuple(devices), accelerator, options)


def _cpu(name: str, size: str) -> Topology:
    if not re.fullmatch(r"[1-9]\d*", size):
        raise UserError(f"topology={name!r}: must have a number of devices, such as cpu:8")
    devices = jax.devices("cpu")
    if len(devices) < int(size):
        raise UserError(
            f"topology={name!r}: there is {len(devices)} CPU device; before any other use of jax call "
            f"jax.config.update('jax_num_cpu_devices', {size})"
        )
    return Topology(name, tuple(devices[: int(size)]), None, {})


def _open_tpu(name: str, accelerator: Accelerator, size: str) -> tuple[list[Any], dict[str, Any]]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"topology={name!r}: needs the compiler for TPUs: pip install 'cnnjax[tpu]'")
    from jax.experimental.topologies import get_topology_desc

    wanted = {
        "TPU_SKIP_MDS_QUERY": "1",  # there is no server of metadata to ask
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_MIN_LOG_LEVEL": "3",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # it holds no chip, so other processes may have one
    }
    single = (
        {"chips_per_host_bounds": (1, 1, 1)} if math.prod(map(int, re.findall(r"\d+", size))) == 1 else {}
    )
    with _environment(wanted):
        try:
            return get_topology_desc(name, platform="tpu", **single).devices, {}
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).splitlines()[0].partition(": ")[2]
    if "lockfile" in reason:
        raise UserError(
            f"topology={name!r}: the compiler for TPUs did not start: another process has it, or jax looked "
            "for a TPU before; set ALLOW_MULTIPLE_LIBTPU_LOAD=1 and JAX_PLATFORMS=cpu"
        )
    grid = "2x2x1, 2x2x2 or 4x4x4" if name.startswith("v5p") else "1x1, 2x2, 4x4 or 16x16"
    raise UserError(f"topology={name!r}: must be a grid of chips, such as {grid} ({reason})")


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, for as long as a library reads them."""
    added = {key: value for key, value in wanted.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


def _open_gpu(name: str, accelerator: Accelerator, size: str) -> tuple[list[Any], dict[str, Any]]:
    if not re.fullmatch(r"[1-9]\d*", size) or (int(size) > NVIDIA_NODE and int(size) % NVIDIA_NODE):
        raise UserError(
            f"topology={name!r}: must have 1 to {NVIDIA_NODE} GPUs, or a multiple of {NVIDIA_NODE}, as in "
            "h100:8 or h100:64"
        )
    names = [f"jax_plugins.xla_cuda{version}" for version in (12, 13)]
    # Without any plugin there is no package to look into.
    if importlib.util.find_spec("jax_plugins") is None or not any(map(importlib.util.find_spec, names)):
        raise UserError(f"topology={name!r}: needs the compiler for NVIDIA GPUs: pip install 'cnnjax[cuda]'")
    from jax.experimental.topologies import get_topology_desc

    hosts, each = max(1, int(size) // NVIDIA_NODE), min(int(size), NVIDIA_NODE)
    target = {"target_config": _target_config(name, accelerator), "topology": f"{hosts}x1x{each}"}
    try:
        with _environment({"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}):  # it asks a driver
            description = get_topology_desc(platform="cuda", **target)
    except NotImplementedError as error:
        raise UserError(
            f"topology={name!r}: the compiler for NVIDIA GPUs did not start: set "
            "JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 before jax is first used, for it asks a driver"
        ) from error
    return description.devices, {"xla_gpu_autotune_level": 0}  # there is nothing to tune on


def _target_config(name: str, accelerator: Accelerator) -> str:
    """XLA's `GpuTargetConfigProto` as text: the limits of CUDA, and what tells one card from another."""
    target = accelerator.target
    major, minor = target["capability"]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: {target["shared"]}
  shared_memory_per_core: {target["per_core"]}
  core_count: {target["cores"]} fpus_per_core: {target["fpus"]} clock_rate_ghz: {target["clock"]}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {accelerator.bandwidth:.0f} device_memory_size: {accelerator.memory}
  l2_cache_size: {target["l2"]} cuda_compute_capability {{ major: {major} minor: {minor} }}
  driver_version: "13.0.0" runtime_version: "12.8.0" dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name.partition(":")[0].upper()}"
"""
