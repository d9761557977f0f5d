"""The verb `cnnjax plan`."""

import dataclasses
from typing import Annotated, Any

import tyro

from cnnjax.config import Config, Shard
from cnnjax.verbs.options import show_result, with_options


@dataclasses.dataclass(frozen=True)
class Plan:
    """Compile a run's training step for accelerators that are not here: memory, exchanges, speed at most."""

    topology: str
    """Accelerator and devices: h100:8 (a100, h200, b200), v5e:4x4 (v5p, v6e), or cpu:8, of this machine."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=lambda: Config(data="")
    )
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    optimizer_options: tuple[str, ...] = ()
    """Arguments of the optimizer, such as b2=0.95."""
    schedule_options: tuple[str, ...] = ()
    """Arguments of optax's schedule, such as decay_rate=0.5."""
    groups: tuple[str, ...] = ()
    """Parameters with their own rate or decay, such as '*/bias:rate=2,decay=0'."""
    mesh: str | None = None
    """Devices of each axis, such as data=4,model=2; all are on the data axis when not given."""
    shard: Shard = "replicated"
    """How weights and the optimizer's state are divided over the devices."""
    compare: tuple[str, ...] | None = None
    """Settings to plan in all combinations, such as shard=replicated shard=fsdp batch_size=1024."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Print the table."""
        config = with_options(self)

        import jax

        # The compilers need none of the devices that they compile for, nor those that may be here.
        jax.config.update("jax_platforms", "cpu")
        kind, _, devices = self.topology.partition(":")
        if kind == "cpu" and devices.isdecimal():
            jax.config.update("jax_num_cpu_devices", int(devices))

        from cnnjax.counting.plan import plan
        from cnnjax.counting.plans import compare_plans

        where: Any = {"topology": self.topology, "mesh": self.mesh, "shard": self.shard}
        found = (
            plan(config, **where) if self.compare is None else compare_plans(config, self.compare, **where)
        )
        show_result(found, self.json)
