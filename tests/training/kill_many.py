"""By hand: 50 deaths at random moments, each followed by the same command (a quarter of an hour on 2 cores).

    python -m tests.training.kill_many [--kills 50] [--seed 0]

Runs of a tiny network, by one process or two, die while they start, train, save and evaluate: of SIGKILL, of
SIGTERM, of either sent to one of the two processes, or of a full disk (a small tmpfs, so as root); or a byte
is flipped in a file of the newest checkpoint after a SIGKILL, or its end cut off. Each restart must go on
from the newest whole checkpoint, and each run must end with the bits and lines of one that was left alone.
"""

import argparse
import collections
import contextlib
import hashlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STEPS, EVERY = 60, 4
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
KINDS = [
    *("SIGKILL", "SIGTERM") * 2,
    *("SIGKILL of one of two", "SIGTERM of one of two"),
    *("flipped byte", "truncated file", "full disk"),
]


def run(out: str) -> None:
    """What is killed: a run that says on stderr what it is about to do."""
    from cnnjax.errors import one_line_errors
    from cnnjax.launch import joined

    with joined(), one_line_errors("run"):
        import jax
        import numpy as np

        import cnnjax
        from cnnjax.compilation import use_cache
        from cnnjax.data.synthetic import synthetic
        from cnnjax.training import inputs
        from cnnjax.training.checkpoint import Checkpoints
        from cnnjax.training.program import Program

        def told(what: str, plain):
            def telling(*arguments):
                print(f"at {what}", file=sys.stderr, flush=True)
                return plain(*arguments)

            return telling

        def batch_indices(seed, step, *rest):
            print(f"at training {step}", file=sys.stderr, flush=True)
            time.sleep(0.02)
            return plain(seed, step, *rest)

        use_cache()
        print(f"pid {os.getpid()}", file=sys.stderr, flush=True)
        plain, inputs.batch_indices = inputs.batch_indices, batch_indices
        Program.evaluate = told("evaluation", Program.evaluate)
        Checkpoints._save = told("checkpoint", Checkpoints._save)
        config = cnnjax.Config(
            model="resnet8",
            model_options={"width": 2},
            data="synthetic",
            steps=STEPS,
            batch_size=16,
            learning_rate=0.02,
            schedule="cosine",
            evaluate_every=6,
            checkpoint_every=EVERY,
        )
        result = cnnjax.train(config, out, data=synthetic(train=50, test=80, size=8))
        bits = hashlib.sha256()
        for leaf in jax.tree.leaves(result.variables):
            bits.update(np.asarray(leaf).tobytes())
        print(f"bits {bits.hexdigest()}", flush=True)


class Attempt:
    """One start of a run, and what it said so far."""

    def __init__(self, out: Path, processes: int):
        command = [sys.executable, "-m", "tests.training.kill_many", "--run", str(out)]
        if processes > 1:
            launch = ["-m", "cnnjax.launch", "--processes", str(processes), "--devices", "2", "--"]
            command = [sys.executable, *launch, *command]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self.text = ""
        self.phase = "start"
        self.step = -1
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.text += line
            if found := re.search(r"\bat (\w+)(?: (\d+))?$", line):
                self.phase = found[1]
                self.step = max(self.step, int(found[2] or -1))

    def wait_for(self, seconds: float, training: bool) -> bool:
        """Let it run so long, counted from its first step if `training`; whether it still runs then."""
        while training and self.step < 0 and self.process.poll() is None:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def end(self) -> int:
        """Its exit code, when it has one."""
        code = self.process.wait(900)
        self._reader.join()
        return code

    def found(self, pattern: str) -> list[str]:
        """What it said."""
        return re.findall(pattern, self.text)


def newest_whole(out: Path) -> int:
    """The step of the newest checkpoint whose digests hold, or 0."""
    from cnnjax.training.checkpoint import find_damage, kept_steps

    folder = out / "checkpoints"
    return max((step for step in kept_steps(folder) if not find_damage(folder / str(step))), default=0)


def damage(out: Path, draw: random.Random, kind: str) -> bool:
    """Damage a file of the newest checkpoint; False when there is none."""
    from cnnjax.training.checkpoint import kept_steps

    steps = kept_steps(out / "checkpoints")
    if not steps:
        return False
    files = [
        path
        for path in sorted((out / "checkpoints" / str(steps[-1])).rglob("*"))
        if path.is_file() and path.stat().st_size and path.name != "_CHECKPOINT_METADATA"
    ]
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    if kind == "flipped byte":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    else:
        del content[draw.randrange(len(content)) :]
    path.write_bytes(content)
    return True


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def lines(out: Path) -> list[dict]:
    """The record, times aside."""
    from cnnjax.files import read_jsonl

    return [{k: v for k, v in line.items() if k != "time"} for line in read_jsonl(out / "metrics.jsonl")]


def kill(attempt: Attempt, kind: str, out: Path, disk: Path, draw: random.Random) -> str:
    """End an attempt as `kind` says; what was wrong with its end, or nothing."""
    if kind == "full disk":
        fill(disk)
        code = attempt.end()
        (disk / "ballast").unlink()
        one_line = attempt.found(r"run: could not write a checkpoint.*|run: No space left on device.*")
        return "" if code == 0 or (code == 2 and one_line) else f"code {code}, said {one_line}"
    number = SIGNALS.get(kind.split()[0], signal.SIGKILL)
    pids = [int(pid) for pid in attempt.found(r"pid (\d+)")]
    if "two" in kind and pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(pids), number)
    else:
        attempt.process.send_signal(number)
    code = attempt.end()
    if "two" in kind and pids and code and not attempt.found(r"launch: process \d .* went first"):
        return "the launcher did not say who went first"
    if number == signal.SIGTERM and code:
        stopped = attempt.found(rf"stopped at step (\d+) of {STEPS}")
        ended = attempt.found(r"bits \w+")  # and was only on its way out
        if code not in (143, -15) or (attempt.step >= 0 and not stopped and not ended):
            return f"code {code} after SIGTERM at step {attempt.step}"
        if stopped and not attempt.step <= int(stopped[0]) == newest_whole(out):
            return f"stopped at {stopped[0]}, saved {newest_whole(out)}, trained {attempt.step}"
    if kind in ("flipped byte", "truncated file"):
        damage(out, draw, kind)
    return ""


def study(kills: int, seed: int, disk: Path) -> int:
    """The tally, on stdout; the number of failures."""
    draw = random.Random(seed)
    kinds = list(itertools.islice(itertools.cycle(KINDS), kills))
    draw.shuffle(kinds)
    expected: dict[int, tuple[list[str], list[dict]]] = {}
    tally, phases = collections.Counter(), collections.Counter()
    failures = runs = 0
    last: dict[int, tuple[int, int]] = {}  # by processes: number of the run that goes on, its newest step

    def check(wrong: str, attempt: Attempt, what: str) -> None:
        nonlocal failures
        if wrong:
            failures += 1
            print(f"FAILED {what}: {wrong}\n{attempt.text[-3000:]}", flush=True)

    for processes in (1, 2):
        alone = disk / f"alone{processes}"
        attempt = Attempt(alone, processes)
        assert attempt.end() == 0, attempt.text
        expected[processes] = attempt.found(r"bits (\w+)"), lines(alone)
    while kinds or last:
        kind = kinds[-1] if kinds else ""
        processes = (2 if "two" in kind or draw.random() < 0.1 else 1) if kinds else next(iter(last))
        number, newest = last.pop(processes, (runs, 0))
        runs = max(runs, number + 1)
        out = disk / f"run{number}"
        attempt = Attempt(out, processes)
        training = draw.random() < 0.85
        alive = bool(kinds) and attempt.wait_for(draw.uniform(0, 2.5 if training else 8), training)
        if alive and kinds:
            kinds.pop()
            tally[kind] += 1
            phases[attempt.phase] += 1
            check(kill(attempt, kind, out, disk, draw), attempt, kind)
            done = sum(tally.values())
            print(f"{done}: {kind}, run {number} at {attempt.phase} {attempt.step}", flush=True)
        code = attempt.end()
        began = attempt.found(rf"goes on from step (\d+) of {STEPS}")
        if attempt.step >= 0 and newest:
            check("" if began == [str(newest)] else f"{began} and not {newest}", attempt, "going on")
        if code == 0:
            same = (attempt.found(r"bits (\w+)"), lines(out)) == expected[processes]
            check("" if same else "other bits or lines", attempt, f"the end of run {number}")
            print(f"run {number} of {processes} ends: {'same bits' if same else 'DIFFERS'}", flush=True)
        else:
            check("" if alive else f"died of itself with code {code}", attempt, f"run {number}")
            last[processes] = number, newest_whole(out)
    print(f"\n{sum(tally.values())} kills in {runs} runs, {failures} failures")
    for name, count in [*tally.items(), *((f"at {phase}", count) for phase, count in phases.items())]:
        print(f"{name}: {count}")
    return failures


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run)
        return
    with tempfile.TemporaryDirectory() as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], check=True)
        try:
            sys.exit(min(1, study(arguments.kills, arguments.seed, Path(disk))))
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


if __name__ == "__main__":
    main()
