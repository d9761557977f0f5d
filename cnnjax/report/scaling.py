"""Speed, efficiency and memory against the number of devices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax.report.figure import panels, save, styled


@styled
def scaling(rows: Sequence[dict[str, Any]], stem: Path) -> dict[str, Path]:
    """Draw the rows of `experiments.scaling`'s summary; the files' paths by their endings."""
    most = max(row["devices"] for row in rows)
    whole = max(row["batch"] for row in rows)
    share = min(row["batch"] for row in rows)
    copies = sorted((row for row in rows if row["shard"] == "replicated"), key=lambda row: row["devices"])
    curves = {
        "strong": (f"batch {whole}", [row for row in copies if row["batch"] == whole]),
        "weak": (f"{share} images each", [row for row in copies if row["images_per_device"] == share]),
    }
    figure, axes = panels(1, 3, width=4.2, height=3.6)
    speed, cost, memory = axes[0]
    for name, (about, curve) in curves.items():
        devices = [row["devices"] for row in curve]
        speed.plot(devices, [row["images_per_second"] for row in curve], "o-", label=f"{name}: {about}")
        efficiency = [100 * row[f"{name}_efficiency"] for row in curve]
        cost.plot(devices, efficiency, "o-", label=f"{name}: {about}")
    speed.set_ylabel("images a second")
    cost.set_ylabel("efficiency, %")
    for axis in (speed, cost):
        axis.set_xscale("log", base=2)
        axis.set_xticks([2**power for power in range(most.bit_length())], labels=None)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.set_xlabel("devices")
        axis.set_ylim(bottom=0)
    speed.legend(frameon=False, fontsize=9)

    divided = [row for row in rows if row["devices"] in (1, most) and row["batch"] == whole]
    names = [f"{row['mesh']}\n{row['shard']}".replace(",", "\n") for row in divided]
    below = [0.0] * len(divided)
    for part in ("state", "working"):
        sizes = [row["bytes_per_device"][part] / 2**20 for row in divided]
        memory.bar(names, sizes, bottom=below, width=0.7, label=part)
        below = [low + size for low, size in zip(below, sizes, strict=True)]
    memory.set_ylabel("MiB on each device")
    memory.tick_params("x", labelsize=7)
    memory.legend(frameon=False, fontsize=9)
    return save(figure, stem)
