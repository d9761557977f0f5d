"""By hand: runs on several devices, begun there and gone on elsewhere (about five minutes on 2 cores).

    python -m tests.training.move_a_run

`cnnjax train`, by the launcher, takes 20 steps at each of the places below and keeps its checkpoint of step
10. From there the same command with `--resume 10` takes the last 10 steps again at other places. Losses must
be those of one device, or of the run that stayed, within 1e-5 of their size, parameters within 1e-4.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PLACES = {
    "1 device": ("--processes 1 --devices 1", ""),
    "2 devices": ("--processes 1 --devices 2", ""),
    "8 devices": ("--processes 1 --devices 8", ""),
    "2 processes": ("--processes 2 --devices 4", ""),
    "8 devices, fsdp": ("--processes 1 --devices 8", "--mesh data=4,model=2 --shard fsdp"),
    "2 processes, fsdp": ("--processes 2 --devices 4", "--mesh data=4,model=2 --shard fsdp"),
}
MOVES = {
    "8 devices": ["1 device", "2 devices", "2 processes", "2 processes, fsdp"],
    "2 processes": ["8 devices", "8 devices, fsdp"],
    "8 devices, fsdp": ["1 device", "2 processes", "2 processes, fsdp"],
    "2 processes, fsdp": ["8 devices"],
}
TRAIN = (
    "--model resnet8 --options width=8 --data synthetic --augment crop_flip --batch-size 16 --steps 20 "
    "--learning-rate 0.02 --schedule cosine --evaluate-every 10 --checkpoint-every 10"
)


def train(place: str, out: Path, *options: str) -> str:
    """Run `cnnjax train` there; what it said."""
    launch, mesh = PLACES[place]
    command = [sys.executable, "-m", "cnnjax.launch", *launch.split(), "--"]
    command += [sys.executable, "-m", "cnnjax", "train", "--out", str(out), *TRAIN.split(), *mesh.split()]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, f"{place}: {done.stderr}"
    assert done.stdout.count("test_loss") == 1, f"{place} said {done.stdout}"
    return done.stdout


def result(out: Path):
    """The losses of all steps, and all variables."""
    import jax

    import cnnjax
    from cnnjax.files import read_json, read_jsonl

    config = cnnjax.Config.from_json(read_json(out / "config.json")["config"])
    variables = cnnjax.train(config, out, say=lambda line: None).variables
    lines = read_jsonl(out / "metrics.jsonl")
    assert [line["step"] for line in lines if "train_loss" in line] == list(range(1, 21))
    losses = [line[name] for line in lines for name in ("train_loss", "test_loss") if name in line]
    return np.array(losses), jax.tree.leaves(variables)


def agree(what: str, first, second) -> bool:
    """Whether two results are the same, on stdout too."""
    loss = np.max(abs(second[0] / first[0] - 1))
    distance = max(float(abs(a - b).max()) for a, b in zip(first[1], second[1], strict=True))
    fine = loss < 1e-5 and distance < 1e-4
    end = "" if fine else "  TOO MUCH"
    print(f"{what:42} losses differ by {loss:.0e}, parameters by {distance:.0e}{end}", flush=True)
    return fine


def main(folder: Path) -> int:
    """The table, on stdout; how much of it went wrong."""
    wrong = 0
    train("1 device", folder / "alone")
    alone = result(folder / "alone")
    for begun, others in MOVES.items():
        stayed = folder / begun.replace(" ", "_")
        train(begun, stayed)
        own = result(stayed)
        wrong += not agree(f"1 device, {begun}", alone, own)
        for other in others:
            moved = folder / "moved"
            shutil.copytree(stayed, moved)
            said = train(other, moved, "--resume", "10")
            assert "goes on from step 10 of 20" in said, said
            wrong += not agree(f"{begun} -> {other}", own, result(moved))
            shutil.rmtree(moved)
    return wrong


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
