"""Plans as tables."""

from collections.abc import Mapping

from cnnjax.counting.plan import Plan
from cnnjax.terminal import Page, table

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: float | None) -> str:
    """Bytes with a unit, such as `9.1 GiB`."""
    if size is None:
        return "?"
    power = min(len(UNITS) - 1, max(0, (int(size).bit_length() - 1) // 10))
    return f"{size / 1024**power:.{1 if power else 0}f} {UNITS[power]}"


def seconds_text(seconds: float | None) -> str:
    """Milliseconds."""
    return "?" if seconds is None else f"{1000 * seconds:.3g} ms"


def mesh_text(mesh: Mapping[str, int]) -> str:
    """As `--mesh` takes it, without axes of one device."""
    return ",".join(f"{axis}={size}" for axis, size in mesh.items() if size > 1) or "data=1"


def plan_table(plan: Plan) -> Page:
    """One plan, a figure a line."""
    config = plan.config
    title = f"{plan.what}, batch {config.batch_size:,}, {config.dtype}"
    where = f"on {plan.topology}, {mesh_text(plan.mesh)}, {plan.shard}; of one device"
    rows = _rows(plan)
    return Page(title, where, "", table(rows, align="lrl"))


def _rows(plan: Plan) -> list[tuple[str, str, str]]:
    memory = f"of {size_text(plan.usable_bytes)}"
    if plan.usable_bytes != plan.device_memory_bytes:
        memory += f", what JAX takes of {size_text(plan.device_memory_bytes)}"
    rows = [
        ("parameters of the network", f"{plan.parameters:,}", ""),
        ("state", size_text(plan.state_bytes), "parameters, optimizer, averages"),
        ("arguments", size_text(plan.argument_bytes), "state, data on the device, a step's inputs"),
        ("temporaries", size_text(plan.temporary_bytes), "activations and working memory"),
        ("memory", size_text(plan.needed_bytes), f"{'fits' if plan.fits else 'DOES NOT FIT'}: {memory}"),
        ("largest batch", f"{plan.largest_batch:,}", "of all devices, to an eighth"),
    ]
    rows += [
        (kind, f"{one.count:,}", f"{size_text(one.bytes)}, of which it sends {size_text(one.sent)}")
        for kind, one in plan.exchanges.items()
    ] or [("exchanges", "0", "")]
    rows += [("convolutions", f"{count:,}", by) for by, count in plan.convolutions.items()]
    rows += [
        ("operations", f"{plan.flops:.3g}", "of convolutions and matrix products"),
        ("bytes moved", size_text(plan.bytes_accessed), "to and from its memory"),
    ]
    rows += [(f"{name}, at least", seconds_text(seconds), "a step") for name, seconds in plan.seconds.items()]
    if plan.bound_seconds:
        images = plan.config.batch_size / plan.bound_seconds
        rows.append(
            (
                "bound of a step",
                seconds_text(plan.bound_seconds),
                f"{plan.bound_by}; {images:,.0f} images/s at most",
            )
        )
    return [*rows, ("to compile", f"{plan.compile_seconds:.1f} s", "on this machine")]
