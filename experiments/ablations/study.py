"""A study: a base, and arms that differ from it in named fields."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from cnnjax.config import Config

MEASURES = {
    "test_error": "test error",
    "test_top5_error": "top-5 error",
    "test_loss": "test loss",
    "calibration_error": "calibration error",
}
"""What arms are compared by, where it was measured: final metrics, and `Calibration`'s."""
IN_POINTS = ("test_error", "test_top5_error", "calibration_error")
"""Those that are shares, printed in percent."""


@dataclasses.dataclass(frozen=True, eq=False)
class Arm:
    """What is changed.

    Attributes:
        title: in words.
        changes: fields of the base's Config; of `model_options` only those named.
        published: by measure, in points: this arm's minus the base's in the study's source.
    """

    title: str
    changes: Mapping[str, Any]
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def config(self, base: Config) -> Config:
        """The base's, changed."""
        options = {**base.model_options, **self.changes.get("model_options", {})}
        return dataclasses.replace(base, **{**self.changes, "model_options": options})


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Arms beside one base.

    Attributes:
        name: for --studies, and first in the names of its runs.
        source: paper and section of the published differences.
        base: what the base is called.
        config: the base's.
        arms: what is compared with it.
        calibrated: whether calibration errors are measured, too.
    """

    name: str
    source: str
    base: str
    config: Config
    arms: tuple[Arm, ...]
    calibrated: bool = False

    @property
    def configs(self) -> dict[str, Config]:
        """By title, the base first."""
        return {self.base: self.config} | {arm.title: arm.config(self.config) for arm in self.arms}

    def run(self, title: str, seed: int) -> str:
        """The folder of a run."""
        return f"{self.name}_{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}_seed{seed}"
