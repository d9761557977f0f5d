"""Deaths at random moments, each followed by the same command; `test_kill_many.py` runs it.

Tiny runs, by one process or two, and an experiment by two workers die while they start, train, save and
evaluate: of SIGKILL, of SIGTERM, of either sent to one of two processes, of a full disk (a small tmpfs, so as
root), or of a power cut, which leaves the file that was written last cut short or with zeros at its end. Or a
bit is flipped in a file of the newest checkpoint. Each restart must go on from the newest whole checkpoint,
and each run must end with the bits and lines of one that was left alone.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

STEPS, EVERY = 60, 4
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
HARMLESS = ("_CHECKPOINT_METADATA", "commit_success.txt")  # nobody reads what they say


def run(out: str) -> None:
    """What is killed: a run that says on stderr what it is about to do."""
    from cnnjax.errors import one_line_errors
    from cnnjax.launch import joined

    with joined(), one_line_errors("run"):
        import jax
        import numpy as np

        from cnnjax.compilation import use_cache
        from cnnjax.training import inputs
        from cnnjax.training.checkpoint import Checkpoints
        from cnnjax.training.program import Program
        from tests.training import tiny

        def told(what: str, plain):
            def telling(*arguments):
                print(f"at {what}", file=sys.stderr, flush=True)
                return plain(*arguments)

            return telling

        def batch_indices(seed, step, *rest):
            print(f"at training {step}", file=sys.stderr, flush=True)
            return plain(seed, step, *rest)

        use_cache()
        print(f"pid {os.getpid()}", file=sys.stderr, flush=True)
        plain, inputs.batch_indices = inputs.batch_indices, batch_indices
        Program.evaluate = told("evaluation", Program.evaluate)
        Checkpoints._save = told("checkpoint", Checkpoints._save)
        config = dataclasses.replace(tiny.CONFIG, steps=STEPS, evaluate_every=6, checkpoint_every=EVERY)
        result = tiny.train(out, print, config=config, probes=None)
        bits = hashlib.sha256()
        for leaf in jax.tree.leaves(result.variables):
            bits.update(np.asarray(leaf).tobytes())
        print(f"bits {bits.hexdigest()}", flush=True)


@dataclasses.dataclass(frozen=True)
class Target:
    """What is started and killed, and the ways in which it dies."""

    name: str
    command: Sequence[str]
    runs: Sequence[str]  # folders of the runs in its own
    kinds: Sequence[str]
    share: int  # of the deaths
    most_lines: int  # of metrics.jsonl, before it dies


RUN = [sys.executable, "-m", "tests.training.kill_many"]
LAUNCH = [sys.executable, "-m", "cnnjax.launch", "--processes", "2", "--devices", "2", "--"]
EXPERIMENT = ["--preset", "smoke", "--depths", "8", "--steps", "160", "--out"]
ONE = ["SIGKILL", "SIGTERM", "power cut", "SIGKILL", "flipped bit", "power cut", "full disk"]
TARGETS = [
    Target("run", RUN, ["."], ONE, share=6, most_lines=30),
    Target(
        "two processes",
        [*LAUNCH, *RUN],
        ["."],
        ["SIGKILL of one", "SIGTERM", "SIGTERM of one", "SIGKILL", "power cut"],
        share=2,
        most_lines=30,
    ),
    Target(
        "experiment",
        [sys.executable, "-m", "experiments.degradation", *EXPERIMENT],
        ["plain8_seed0", "resnet8_seed0"],
        ["SIGKILL", "SIGTERM", "power cut"],
        share=2,
        most_lines=200,
    ),
]


class Attempt:
    """One start, and what it said so far."""

    def __init__(self, target: Target, out: Path):
        self.target, self.out = target, out
        self.process = subprocess.Popen(
            [*target.command, str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.text, self.began = "", time.time()
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

    def wait_for(self, lines: int, seconds: float) -> bool:
        """Let it write so many lines, and go on for so long; whether it still runs then."""
        while self.process.poll() is None and self.written() < lines:
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def written(self) -> int:
        """How many lines of metrics it has written, its runs taken together."""
        paths = [self.out / run / "metrics.jsonl" for run in self.target.runs]
        text = "".join(path.read_text(errors="replace") for path in paths if path.exists())
        return sum(float(moment) >= self.began for moment in re.findall(r'"time": (\d+\.\d+)\}', text))

    def end(self) -> int:
        """Its exit code, when it has one."""
        code = self.process.wait(900)
        self._reader.join()
        self.process.stdout.close()
        return code

    def found(self, pattern: str) -> list[str]:
        """What it said."""
        return re.findall(pattern, self.text)


def newest_whole(out: Path) -> int:
    """The step of the newest checkpoint whose digests hold, or 0."""
    from cnnjax.training.checkpoint import find_damage, kept_steps

    folder = out / "checkpoints"
    return max((step for step in kept_steps(folder) if not find_damage(folder / str(step))), default=0)


def flip(out: Path, draw: random.Random) -> None:
    """Flip a bit in the newest checkpoint, if there is one."""
    from cnnjax.training.checkpoint import kept_steps

    for step in kept_steps(out / "checkpoints")[-1:]:
        files = [
            path
            for path in sorted((out / "checkpoints" / str(step)).rglob("*"))
            if path.is_file() and path.stat().st_size and path.name not in HARMLESS
        ]
        path = draw.choice(files)
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)


def cut_power(folder: Path, draw: random.Random) -> None:
    """Cut the file that was written last short, or leave zeros at its end, up to what is surely on disk.

    Of metrics.jsonl that is what came before the newest checkpoint.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in HARMLESS]
    if not files:
        return
    path = max(files, key=lambda path: path.stat().st_mtime_ns)
    content = path.read_bytes()
    first = 0
    if path.name == "metrics.jsonl":
        saved = newest_whole(path.parent)
        lines = content.splitlines(keepends=True)
        first = sum(len(line) for line in lines if int(re.findall(rb'"step": (\d+)', line)[0]) <= saved)
    if first < len(content):
        place = draw.randrange(first, len(content))
        path.write_bytes(content[:place] + b"\0" * draw.choice([0, len(content) - place]))


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def lines(out: Path, target: Target) -> list[list[dict]]:
    """The records, times aside."""
    from cnnjax.files import read_jsonl

    return [[{**line, "time": 0} for line in read_jsonl(out / run / "metrics.jsonl")] for run in target.runs]


def kill(attempt: Attempt, kind: str, disk: Path, draw: random.Random) -> str:
    """End an attempt as `kind` says; what was wrong with its end, or nothing."""
    out = attempt.out
    if kind == "full disk":
        fill(disk)
        code = attempt.end()
        (disk / "ballast").unlink()
        one_line = attempt.found(r"run: could not write a checkpoint.*|run: No space left on device.*")
        return "" if code == 0 or (code == 2 and one_line) else f"code {code}, said {one_line}"
    number = SIGNALS.get(kind.split()[0], signal.SIGKILL)
    pids = [int(pid) for pid in attempt.found(r"pid (\d+)")]
    if "of one" in kind and pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(pids), number)
    else:
        attempt.process.send_signal(number)
    code = attempt.end()
    time.sleep(0.5)  # processes that it started end after it
    if "of one" in kind and pids and code and not attempt.found(r"launch: process \d .* went first"):
        return "the launcher did not say who went first"
    if number == signal.SIGTERM and code:
        if code not in (143, -15):
            return f"code {code} after SIGTERM at step {attempt.step}"
        stopped = [int(step) for step in attempt.found(rf"stopped at step (\d+) of {STEPS}")]
        saved, ended = newest_whole(out), attempt.found(r"bits \w+")
        # Before its first step it ends at once, and after the last it is only on its way out.
        owes = attempt.step >= 0 and (stopped or attempt.written()) and not ended
        if owes and not (stopped and attempt.step <= stopped[0] == saved):
            return f"stopped at {stopped}, saved {saved}, trained {attempt.step}"
    if kind == "flipped bit":
        flip(out, draw)
    if kind == "power cut":
        cut_power(out, draw)
    return ""


def _has_traceback(text: str, kind: str) -> bool:
    """Whether a process says more than a line.

    After a write that failed, tensorstore's threads report to orbax's closed event loop until the process has
    ended, and Python prints that: no file of ours is in those tracebacks.
    """
    if kind == "full disk":
        return bool(re.search(r'/cnnjax/(?:\w+/)*\w+\.py"', text))
    return "Traceback" in text


def study(kills: int, seed: int, disk: Path, full_disk: bool) -> list[str]:
    """What went wrong; the tally is printed."""
    draw = random.Random(seed)
    tally, phases = collections.Counter(), collections.Counter()
    failures: list[str] = []
    whole = sum(target.share for target in TARGETS)
    for target in TARGETS:
        kinds = [kind for kind in target.kinds if full_disk or kind != "full disk"]
        left = list(itertools.islice(itertools.cycle(kinds), max(1, kills * target.share // whole)))
        draw.shuffle(left)
        alone = Attempt(target, disk / "alone")
        assert alone.end() == 0, alone.text
        expected = alone.found(r"bits (\w+)"), lines(alone.out, target)
        number = newest = 0
        alive = True
        while left or alive:
            out = disk / f"run{number}"
            attempt = Attempt(target, out)
            kind = left[-1] if left else ""
            if draw.random() < 0.85:  # else it dies while it starts
                moment = draw.randrange(1, target.most_lines), draw.uniform(0, 0.1)
            else:
                moment = 0, draw.uniform(0, 5)
            alive = bool(left) and attempt.wait_for(*moment)
            wrong = []
            if alive:
                left.pop()
                tally[f"{target.name}, {kind}"] += 1
                phases[attempt.phase] += 1
                wrong.append(kill(attempt, kind, disk, draw))
            code = attempt.process.returncode if alive else attempt.end()
            began = attempt.found(rf"goes on from step (\d+) of {STEPS}")
            if attempt.step >= 0 and newest and began != [str(newest)]:
                wrong.append(f"goes on from {began} and not {newest}")
            what = f"{target.name} {number}, {kind or 'left alone'}"
            print(f"{what} at {attempt.phase} {attempt.step}", flush=True)
            newest = newest_whole(out) if target.runs == ["."] else 0
            if code == 0:
                if (attempt.found(r"bits (\w+)"), lines(out, target)) != expected:
                    wrong.append("other bits or lines")
                if lost := list(out.rglob(".lock")):
                    wrong.append(f"left behind: {lost}")
                shutil.rmtree(out)
                number, newest = number + 1, 0
            elif not alive:
                wrong.append(f"died of itself with code {code}")
                break
            # One of several processes may have one where another, on which it waits, is killed.
            if target.name == "run" and _has_traceback(attempt.text, kind):
                wrong.append("a traceback")
            failures += [f"{target.name}, {kind}: {each}\n{attempt.text[-3000:]}" for each in wrong if each]
        shutil.rmtree(alone.out)
        tally[f"{target.name}, ended"] = number
    print(f"\n{kills} kills, {len(failures)} failures")
    for name, count in [*tally.items(), *((f"at {phase}", count) for phase, count in phases.items())]:
        print(f"{name}: {count}")
    return failures


if __name__ == "__main__":
    run(sys.argv[1])
