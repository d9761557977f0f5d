"""The answer in words, from the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
MEASURES = (
    ("model", "rise_at_one", "rise of the loss at distance 1 along a random direction"),
    ("model", "top_eigenvalue", "largest eigenvalue"),
    ("arm", "rise_at_one", "same rise with other batch sizes"),
    ("arm", "top_eigenvalue", "largest eigenvalue with them"),
    ("arm", "box_sharpness", "sharpness in a box"),
)


def answer(results: Rows, others: Mapping[str, Rows]) -> str:
    """What the results say; a difference counts if no seed of the one is among those of the other."""
    parts = ["Answer."]
    for kind, name, title in MEASURES:
        parts.append(_order(_by(results, kind, name), title))
    *nets, walk = others["trajectories"]
    shares = [100 * sum(net["explained"][:2]) for net in nets]
    parts.append(
        f"Two components explain {min(shares):.0f} to {max(shares):.0f} % of a trajectory's variance; of a "
        f"random walk with as many points, {100 * sum(walk['explained'][:2]):.0f} %."
    )
    if pairs := others["connectivity"]:
        line, curve = ([pair[f"{way}_loss_barrier"] for pair in pairs] for way in ("line", "curve"))
        parts.append(
            f"Between two seeds the loss rises by {np.mean(line):.2g} nats on the straight line and by "
            f"{np.mean(curve):.2g} on the trained curve."
        )
    return " ".join(parts)


def _by(results: Rows, kind: str, name: str) -> dict[str, list[float]]:
    """Values [seed] by model or arm."""
    found: dict[str, list[float]] = {}
    for row in results:
        if kind in row:
            found.setdefault(row[kind], []).append(row[name])
    return found


def _order(values: Mapping[str, Sequence[float]], title: str) -> str:
    order = sorted(values, key=lambda name: float(np.mean(values[name])))
    listed = ", ".join(f"{name} {np.mean(values[name]):.3g}" for name in order)
    apart = [
        f"{one} below {other}"
        for number, one in enumerate(order)
        for other in order[number + 1 :]
        if max(values[one]) < min(values[other])
    ]
    seeds = f"for all seeds {', '.join(apart)}" if apart else "no two are apart for all seeds"
    return f"The {title}: {listed}; {seeds}."
