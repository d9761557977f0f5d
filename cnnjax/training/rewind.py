"""Going back to an earlier checkpoint of a run, without losing what came later."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from cnnjax.distributed import once
from cnnjax.errors import UserError
from cnnjax.training.checkpoint import find_damage, kept_steps


def rewind(out: Path, step: int, say: Callable[[str], None]) -> None:
    """Make checkpoint `step` of the run in `out` its newest one.

    Later checkpoints, result.json and a copy of metrics.jsonl go to `out`/after_`step`. Where that folder
    exists the run went back before, and nothing is done: so the same command, stopped, goes on. A run without
    any checkpoint is left to start at step 0. What `check_rewind` refuses must not come here.
    """
    once(lambda: _rewind(out, step, say))


def check_rewind(out: Path, step: int) -> None:
    """Raise UserError if the run in `out` has checkpoints, but no whole one of `step`."""
    once(lambda: _check(out, step))


def _check(out: Path, step: int) -> None:
    checkpoints = out / "checkpoints"
    steps = kept_steps(checkpoints)
    if step < 0:
        raise UserError(f"resume={step}: must be the step of a checkpoint")
    if not steps or (out / f"after_{step}").exists():
        return
    if step not in steps:
        raise UserError(f"{out} has no checkpoint of step {step}: there are {', '.join(map(str, steps))}")
    if damage := find_damage(checkpoints / str(step)):
        raise UserError(f"checkpoint {step} in {checkpoints} is damaged ({damage}): resume from another one")


def _rewind(out: Path, step: int, say: Callable[[str], None]) -> None:
    aside, checkpoints = out / f"after_{step}", out / "checkpoints"
    steps = kept_steps(checkpoints)
    if aside.exists():
        say(f"{out}: went back to step {step} before; what came after it then is in {aside}")
        return
    if not steps:
        say(f"{out} has no checkpoint: it starts at step 0")
        return
    moving = out / f".after_{step}"  # when this is cut short, the next call does the rest
    moving.mkdir(exist_ok=True)
    if not (moving / "metrics.jsonl").exists():
        shutil.copy(out / "metrics.jsonl", moving)
    for later in steps:
        if later > step:
            os.replace(checkpoints / str(later), moving / str(later))
    if (out / "result.json").exists():
        os.replace(out / "result.json", moving / "result.json")
    os.replace(moving, aside)
