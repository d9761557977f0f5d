"""How fast a step could be at most: what it computes, moves and sends, against published peaks."""

from collections.abc import Mapping

from cnnjax.counting.exchanges import Exchange
from cnnjax.counting.topology import Topology


def roofline(
    flops: Mapping[str, float], bytes_accessed: float, exchanged: Mapping[str, Exchange], topology: Topology
) -> dict[str, float]:
    """Seconds that "compute", "memory" and "network" need at least (Williams et al. 2009).

    No step can be faster than the largest of them; all overlap at best. Empty where no peak is published,
    as for this machine's CPU. `flops` are by type and, as `bytes_accessed`, those of one device.
    """
    accelerator, link = topology.accelerator, topology.link
    if accelerator is None or link is None or set(flops) - set(accelerator.peak):
        return {}
    return {
        "compute": sum(number / accelerator.peak[dtype] for dtype, number in flops.items()),
        "memory": bytes_accessed / accelerator.bandwidth,
        "network": sum(exchange.sent for exchange in exchanged.values()) / link,
    }
