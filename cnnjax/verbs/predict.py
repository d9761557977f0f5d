"""The verb `cnnjax predict`."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from cnnjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Predict:
    """Classify image files, by a run or with weights that others publish: the five most probable classes."""

    name: tyro.conf.Positional[str]
    """A run's folder, or the name of a network where its weights are from, such as resnet50."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """The image files."""
    weights: Path | None = None
    """File of weights of torchvision, timm, Keras or Caffe, or folder of timm's (docs/guides/weights.md)."""
    labels: Path | None = None
    """Text file with one class name per line."""
    resize: int | None = None
    """Pixels of an image's shorter side before cropping; 232 for torchvision's IMAGENET1K_V2 weights."""

    def run(self) -> None:
        """Print probability, index and label of each guess."""
        try:
            labels = self.labels.read_text().splitlines() if self.labels else []
        except UnicodeDecodeError as error:
            raise UserError(f"--labels {self.labels}: is not a text file") from error

        from cnnjax.terminal import Page, show, table

        for path, best in zip(self.images, self._guesses(), strict=True):
            rows = [
                (f"{100 * probability:.1f} %", str(index), labels[index] if index < len(labels) else "")
                for index, probability in best
            ]
            show(Page(str(path), table(rows, align="rrl")))

    def _guesses(self) -> Any:
        from cnnjax.interop.predict import predict
        from cnnjax.runs import open_run

        if self.weights is not None:
            return predict(self.name, self.weights, self.images, self.resize)
        if not Path(self.name).is_dir():
            raise UserError(f"{self.name} is no run: give --weights FILE for a network of that name")
        if self.resize is not None:
            raise UserError("--resize is for --weights: a run's pictures are prepared as its data was")
        return open_run(self.name).predict(self.images)
