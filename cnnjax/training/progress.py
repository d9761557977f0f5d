"""What the terminal shows while a run goes on."""

import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnjax.config import Config

RECENT = 10  # lines that the loss and error shown are averaged over


class Progress:
    """The bar: step, loss and error of the last steps, images per second, time left."""

    def __init__(self, config: Config, step: int):
        self._batch_size = config.batch_size
        name = f"{config.model} seed {config.seed}"
        # Without a terminal, in a log file, a line now and then is enough.
        interval = 0.2 if sys.stderr.isatty() else 20
        self._bar = tqdm(
            total=config.steps, initial=step, desc=name, unit="step", mininterval=interval, dynamic_ncols=True
        )
        if step < config.steps:
            self._bar.set_postfix_str("compiling")
        self._last = (time.perf_counter(), step)

    def show(self, step: int, lines: list[dict[str, Any]]) -> None:
        """Move the bar to `step`; `lines` are the record's."""
        now, then = time.perf_counter(), self._last
        recent = [line for line in lines[-RECENT:] if "train_loss" in line]
        if step > then[1] and recent:
            speed = (step - then[1]) * self._batch_size / max(1e-9, now - then[0])
            self._last = (now, step)
            self._bar.set_postfix_str(
                f"loss {np.mean([line['train_loss'] for line in recent]):.3f}, "
                f"error {np.mean([line['train_error'] for line in recent]):.1%}, {speed:.0f} images/s",
                refresh=False,
            )
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
