"""What the terminal shows while a run goes on."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnjax.config import Config
from cnnjax.distributed import first

RECENT = 10  # lines that the loss and error shown are averaged over
LINE = 0  # of the terminal, from where it stands; processes side by side have one each


class Progress:
    """The bar of runs that train together: step, loss and error of the last steps, images/s, time left."""

    def __init__(self, configs: Sequence[Config], step: int):
        config = configs[0]
        self._images = config.batch_size * len(configs)
        name = f"{config.model} seed {', '.join(str(config.seed) for config in configs)}"
        # Without a terminal, in a log file, a line now and then is enough.
        interval = 0.2 if sys.stderr.isatty() else 20
        self._bar = tqdm(
            total=config.steps,
            initial=step,
            desc=name,
            unit="step",
            mininterval=interval,
            dynamic_ncols=True,
            position=LINE or None,
            disable=not first(),
        )
        if step < config.steps:
            self._bar.set_postfix_str("compiling")
        self._last = (time.perf_counter(), step)

    def show(self, step: int, records: Sequence[list[dict[str, Any]]]) -> None:
        """Move the bar to `step`; `records` are the lines of each run."""
        now, then = time.perf_counter(), self._last
        recent = [line for lines in records for line in lines[-RECENT:] if "train_loss" in line]
        if step > then[1] and recent:
            speed = (step - then[1]) * self._images / max(1e-9, now - then[0])
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
