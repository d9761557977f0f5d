"""Going back to an earlier checkpoint of a run, without losing what came later."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnjax.distributed import on_process_zero
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl, replacing
from cnnjax.training.checkpoint import find_damage, kept_steps


def rewind(out: Path, step: int, say: Callable[[str], None]) -> None:
    """Make checkpoint `step` of the run in `out` its newest one.

    Later checkpoints, result.json and a copy of metrics.jsonl are moved to `out`/after_`step`. If that folder
    exists, the run went back before and nothing is done, so that the same command continues after a stop. A
    run without checkpoints starts at step 0. Call `check_rewind` first.
    """
    on_process_zero(lambda: _rewind(out, step, say))


def check_rewind(outs: Sequence[Path], step: int) -> None:
    """Raise UserError if no run has checkpoints, or if one has some but no whole one of `step`."""
    on_process_zero(lambda: _check(outs, step))


def _check(outs: Sequence[Path], step: int) -> None:
    if step < 0:
        raise UserError(f"resume={step}: must be the step of a checkpoint")
    begun = [out for out in outs if has_begun(out, step)]
    if not begun:
        raise UserError(
            f"resume={step}: {', '.join(map(str, outs))} has no checkpoint; leave it out to start at step 0"
        )
    for out in begun:
        checkpoints = out / "checkpoints"
        steps = kept_steps(checkpoints)
        if (out / f"after_{step}").exists():
            continue
        if step not in steps:
            raise UserError(f"{out} has no checkpoint of step {step}: there are {', '.join(map(str, steps))}")
        if damage := find_damage(checkpoints / str(step)):
            raise UserError(
                f"checkpoint {step} in {checkpoints} is damaged ({damage}): resume from another one"
            )


def has_begun(out: Path, step: int) -> bool:
    """Whether the run in `out` has checkpoints, or had some when it went back to `step`."""
    return bool(kept_steps(out / "checkpoints")) or (out / f"after_{step}").exists()


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
    metrics = out / "metrics.jsonl"
    if metrics.exists() and not (moving / metrics.name).exists():
        with open(metrics, "rb") as old, replacing(moving / metrics.name, "wb") as new:
            shutil.copyfileobj(old, new)
    for later in steps:
        if later > step:
            os.replace(checkpoints / str(later), moving / str(later))
    if metrics.exists():
        with replacing(metrics, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in read_jsonl(metrics) if line["step"] <= step)
    if (out / "result.json").exists():
        os.replace(out / "result.json", moving / "result.json")
    os.replace(moving, aside)
