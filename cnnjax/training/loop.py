"""The training loop. There is only this one; experiments are lists of configs for it."""

import contextlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.distributed import fetch
from cnnjax.errors import Interrupted
from cnnjax.training.callbacks import Callback
from cnnjax.training.program import Program
from cnnjax.training.progress import Progress
from cnnjax.training.run import Run
from cnnjax.training.step import State
from cnnjax.training.stop import IN_FLIGHT, Stop
from cnnjax.training.task import Task


class Training:
    """Train runs of one program that are at the same step, together to the end.

    The life of a batch, in the order of the code:

    1. `program.input_source.training` makes what a dispatch brings, a function of (seed, step): indices of
       examples, or the examples themselves where they are read ahead.
    2. `program.train` starts the compiled step, which selects the batch from the arrays on the device
       (`select_batch`), normalises and augments it, and goes forward, backward and to new parameters
       (`make_train_step`). The host does not wait for it.
    3. Some dispatches later `_write_down` fetches the metrics and what probes measured, writes them to
       metrics.jsonl and probes/, and calls the callbacks.
    4. At intervals `_evaluate` and `_save` write down what is left, test the parameters, and start writing a
       checkpoint: the state and the step, which is the position in the data.
    """

    def __init__(
        self,
        task: Task,
        program: Program,
        runs: Sequence[Run],
        callbacks: Sequence[Callback],
        steps_per_dispatch: int,
        stop: Stop,
    ):
        self._task, self._program, self._runs, self._stop = task, program, runs, stop
        self._callbacks = callbacks
        self._config = config = runs[0].config
        interval = math.gcd(config.steps, config.evaluate_every, config.checkpoint_every)
        at_most = min(steps_per_dispatch, program.input_source.most_steps)
        self._steps_per_dispatch = largest_divisor(interval, at_most)
        self._step = self._saved = self._written = runs[0].step
        self._pending: deque[Any] = deque()
        self._wants_to_end = False  # a callback said so
        self._progress = Progress(task.short_name, [run.config for run in runs], self._step)

    def to_the_end(self) -> State:
        """Train, test and save; returns the last state, [run, ...] on the devices.

        Raises:
            Interrupted: a signal asked it to stop; the state is saved.
            Diverged: a metric is not finite.
        """
        configs = [run.config for run in self._runs]
        per_run = self._per_run()
        self._state = self._first_state()
        with (
            contextlib.closing(self._progress),
            self._program.input_source.training(configs, self._step) as batch_inputs,
        ):
            self._tell("on_start", self._step, _means([run.record.lines for run in self._runs]))
            while True:
                self._stop.poll()
                if self._evaluate():
                    per_run = self._per_run()
                self._save()
                if self._stop or self._is_last():
                    break
                steps = self._next_steps()
                due = self._probes_due(steps.start)
                self._state, *gave = self._program.train(self._state, batch_inputs(steps), per_run, due)
                self._stop.listen()  # all is compiled
                self._pending.append(gave)
                self._step = steps.stop
                self._write_down(but=IN_FLIGHT)
            for run in self._runs:
                run.checkpoints.wait()
        if self._stop.number is not None and not (self._is_last() and self._is_tested()):
            raise self._interrupted(self._stop.number)
        return self._state

    def _first_state(self) -> State:
        if self._step == 0:
            return self._program.init([run.config.seed for run in self._runs])
        state = self._program.put([run.state for run in self._runs])
        for run in self._runs:
            run.state = None  # free its memory
        return state

    def _next_steps(self) -> range:
        """The steps of the next dispatch: as many as one takes, unless they differ in the probes due.

        In that case, and up to the next multiple after a stop in between, steps are dispatched one by one.
        """
        several = range(self._step, self._step + self._steps_per_dispatch)
        if self._step % self._steps_per_dispatch or len({self._probes_due(step) for step in several}) > 1:
            return range(self._step, self._step + 1)
        return several

    def _probes_due(self, step: int) -> tuple[bool, ...]:
        return tuple(bool(probe.due(step)) for probe in self._task.probes)

    def _is_due(self, every: int) -> bool:
        return self._is_last() or (self._step > 0 and self._step % every == 0)

    def _is_last(self) -> bool:
        """Whether the runs end here: at their last step, or at an evaluation if a callback said so."""
        ended = self._wants_to_end and self._step % self._config.evaluate_every == 0
        return ended or self._step == self._config.steps

    def _is_tested(self) -> bool:
        return all(run.is_tested(self._step) for run in self._runs)

    def _per_run(self) -> Any:
        """The arguments of a step that differ between runs; tests may have lowered the learning rate."""
        return self._program.per_run([run.rated for run in self._runs])

    def _evaluate(self) -> bool:
        """Test the parameters if it is time and not done; whether it was."""
        if not self._is_due(self._config.evaluate_every) or self._is_tested():
            return False
        self._write_down()
        tests = self._test()
        for run, test in zip(self._runs, tests, strict=not self._stop):
            if not run.is_tested(self._step):
                run.write_test(self._step, test)
        if tests:
            self._tell("on_evaluate", self._step, *_means([[test] for test in tests]))
        return bool(tests)

    def _test(self) -> list[dict[str, float]]:
        """The test metrics of each run, those of its averaged parameters too; empty if it was stopped."""
        state, evaluate = self._state, self._program.evaluate
        tests = evaluate(state.variables, self._stop)
        if state.average is None or not tests:
            return tests
        averaged = evaluate(state.averaged_variables, self._stop)
        return [
            {**test, **{f"averaged_{name}": value for name, value in own.items()}}
            for test, own in zip(tests, averaged, strict=not self._stop)
        ]

    def _save(self) -> None:
        """Start writing a checkpoint if it is time, or if the run stops here."""
        is_due = self._is_due(self._config.checkpoint_every)
        if self._step == self._saved or not (self._stop or is_due):
            return
        self._write_down()
        for run, state in zip(self._runs, self._program.get(self._state), strict=True):
            run.save(self._step, state)
        self._saved = self._step
        self._tell("on_checkpoint", self._step)

    def _write_down(self, but: int = 0) -> None:
        """Bring what all dispatches gave, or all but the last few, to the runs' records."""
        while len(self._pending) > but:
            metrics, measured = fetch(self._pending.popleft())
            steps = range(self._written + 1, self._written + 1 + len(metrics["train_loss"][0]))
            for number, run in enumerate(self._runs):
                its_metrics, its_measured = jax.tree.map(
                    lambda array, run=number: array[run], (metrics, measured)
                )
                for remark in run.write(steps, its_metrics, its_measured, self._task.probes):
                    self._progress.say(remark if len(self._runs) == 1 else f"{run.out}: {remark}")
            self._written = steps[-1]
            for step, values in zip(
                steps, zip(*(each.mean(0) for each in metrics.values()), strict=True), strict=True
            ):
                self._tell("on_step", step, dict(zip(metrics, map(float, values), strict=True)))
            self._progress.show(self._written, [run.record.lines for run in self._runs])

    def _tell(self, method: str, *arguments: Any) -> None:
        wants = [getattr(callback, method)(*arguments) for callback in self._callbacks]
        self._wants_to_end = self._wants_to_end or any(wants)

    def _interrupted(self, number: int) -> Interrupted:
        saved = (
            f"saved in {', '.join(str(run.out) for run in self._runs)}"
            if self._step
            else "there is nothing to save"
        )
        return Interrupted(
            f"stopped at step {self._step} of {self._config.steps}, {saved}; the same command goes on from "
            "there",
            number,
        )


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return next(divisor for divisor in range(limit, 0, -1) if number % divisor == 0)


def _means(records: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Lines of several runs as those of one, with the means of what all of them have."""
    return [
        {
            name: float(np.mean([line[name] for line in lines]))
            for name in lines[0]
            if all(name in line for line in lines)
        }
        for lines in zip(*records, strict=False)
    ]
