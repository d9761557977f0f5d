"""Start the processes of one program: all of them on this machine, or one of several on each host.

    python -m cnnjax.launch --processes 2 --devices 4 -- python -m experiments.degradation
    python -m cnnjax.launch --processes 8 --process 3 --coordinator host0:8476 -- python ...
    srun python -m cnnjax.launch --coordinator auto -- python ...

The first command runs 2 processes with 4 virtual CPU devices each on this machine, the second one of 8, each
on its own host. The third takes the address and numbers from the cluster: Slurm, Open MPI, Kubernetes and
Cloud TPUs provide them to JAX.

When a process dies, JAX ends the others after a while, from C++, so they cannot report why. The launcher
names the process that died first and how, stops the others, and exits with its code. The same command
continues from the last checkpoint. A process that is alive but stuck is found by `--patience`
(`cnnjax.watchdog`).
"""

import contextlib
import ctypes
import dataclasses
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Annotated

import tyro

from cnnjax.command import parse
from cnnjax.errors import UserError, one_line_errors
from cnnjax.machine import keep_memory
from cnnjax.watchdog import watch

GRACE = 5  # seconds that the others have to end by themselves, as they do when all agreed to stop


@dataclasses.dataclass(frozen=True)
class Args:
    """Start the processes of one program."""

    command: Annotated[tuple[str, ...], tyro.conf.Positional]
    """What each process runs, after `--`."""
    processes: int | None = None
    """How many there are, on all hosts together."""
    process: int | None = None
    """The number of the one to start here, from 0; all of them when not given."""
    coordinator: str | None = None
    """HOST:PORT of process 0, or auto: the cluster says it; a free port of this machine when not given."""
    devices: int | None = None
    """Virtual CPU devices of each process; the devices that JAX finds when not given."""
    patience: float | None = None
    """Seconds without a step after which a process writes its stacks and all end with code 75."""

    def __post_init__(self) -> None:
        if not self.command:
            raise UserError("what shall be run? Such as: -- python -m experiments.degradation")
        if self.coordinator == "auto":
            if self.processes is not None or self.process is not None:
                raise UserError("--coordinator auto: the cluster says --processes and --process")
        elif self.processes is None or self.processes < 1:
            raise UserError("--processes: how many there are, such as 2, or --coordinator auto in a cluster")
        elif self.process is not None and not 0 <= self.process < self.processes:
            raise UserError(f"--process {self.process}: must be from 0 to {self.processes - 1}")
        elif self.process is not None and self.coordinator is None:
            raise UserError("--process needs --coordinator HOST:PORT, where process 0 is, such as host0:8476")
        if self.devices is not None and self.devices < 1:
            raise UserError(f"--devices {self.devices}: must be at least 1")
        if self.patience is not None and not self.patience >= 1:
            raise UserError(f"--patience {self.patience:g}: must be at least 1 second, such as 1800")

    def environments(self) -> list[dict[str, str]]:
        """The environment variables of each process that is started here."""
        common = {"CNNJAX_COORDINATOR": self.coordinator or f"127.0.0.1:{_free_port()}"}
        if self.patience is not None:
            common["CNNJAX_PATIENCE"] = str(self.patience)
        if self.devices is not None:
            # Threads for all virtual devices, whatever the cores: on fewer, collectives wait for each other.
            threads = str(4 * self.devices)
            common |= {
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": str(self.devices),
                "PJRT_NPROC": threads,
            }
        if self.processes is None:
            return [common]
        common["CNNJAX_PROCESSES"] = str(self.processes)
        numbers = range(self.processes) if self.process is None else [self.process]
        return [{**common, "CNNJAX_PROCESS": str(number)} for number in numbers]


def main(args: Args) -> int:
    """Start the processes and forward signals to them; returns the code of the first that failed, or 0."""
    if shutil.which(args.command[0]) is None:
        raise UserError(f"there is no program {args.command[0]}: give what each process runs after --")
    running: dict[int, subprocess.Popen] = {}  # by process id
    numbers: dict[int, str] = {}

    def send(number: int, _: object = None) -> None:
        for pid in running:
            os.kill(pid, number)

    def stop(*_: object) -> None:
        left = ", ".join(numbers[pid] for pid in running)
        print(f"launch: stopped process {left}, which waited for it", file=sys.stderr)
        send(signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, send)
    signal.signal(signal.SIGALRM, stop)
    for environment in args.environments():
        child = subprocess.Popen(
            args.command,
            env={**os.environ, **environment},
            process_group=0,  # so that Ctrl-C comes once, from here
            preexec_fn=_end_with_the_launcher,
        )
        running[child.pid] = child
        numbers[child.pid] = environment.get("CNNJAX_PROCESS", "of this host")

    failed = 0
    while running:
        pid, status = os.wait()  # at once, since the others soon follow the first that dies
        code = os.waitstatus_to_exitcode(status)
        running.pop(pid).returncode = code
        if code and not failed:
            failed = code if code > 0 else 128 - code
            how = f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
            print(f"launch: process {numbers[pid]} (pid {pid}) went first: it {how}", file=sys.stderr)
            signal.alarm(GRACE)
    signal.alarm(0)
    return failed


def own_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Which of the accelerators that this task of Slurm sees are its own; None to let JAX decide.

    JAX takes one for each task, the one of the task's number on its host, whatever the task sees.
    """
    if "SLURM_LOCALID" not in environment:
        return None
    names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    seen = next((environment[name].split(",") for name in names if environment.get(name)), [])
    tasks = _tasks_on_this_node(environment)
    if not seen:
        return [] if tasks == 1 else None  # an empty list: all, however many there are
    if tasks > 1 and environment.get("SLURM_GPUS_ON_NODE") == str(len(seen)):  # each sees those of all
        share = len(seen) // tasks
        first = share * int(environment["SLURM_LOCALID"])
        return list(range(first, first + share)) or None
    return list(range(len(seen)))


def _tasks_on_this_node(environment: Mapping[str, str]) -> int:
    """From a list such as "4(x2),3": the tasks of each node of the step, in order."""
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS")
    text = next((environment[name] for name in names if environment.get(name)), "1")
    each: list[int] = []
    for part in text.split(","):
        tasks, _, times = part.rstrip(")").partition("(x")
        each += [int(tasks)] * int(times or 1)
    node = int(environment.get("SLURM_NODEID", 0))
    return each[min(node, len(each) - 1)]


def alone() -> None:
    """Raise UserError if this process is one of several that the launcher started."""
    if "CNNJAX_COORDINATOR" in os.environ and os.environ.get("CNNJAX_PROCESSES") != "1":
        raise UserError("this is the work of one process: start it without cnnjax.launch")


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that the launcher started, if it started any; see also `keep_memory`.

    Only process 0 writes to stdout. After an error the process exits immediately: a normal exit waits for the
    others, which may be waiting for this one.
    """
    if "jax" not in sys.modules:  # once its threads have heaps of their own it would only do harm
        keep_memory()
    if seconds := os.environ.get("CNNJAX_PATIENCE"):
        watch(float(seconds))
    coordinator = os.environ.get("CNNJAX_COORDINATOR")
    if coordinator is None:
        yield
        return
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    number, count = (int(os.environ.get(f"CNNJAX_{name}", 0)) for name in ("PROCESS", "PROCESSES"))
    if coordinator == "auto":
        jax.distributed.initialize(local_device_ids=own_devices(os.environ))
    elif count > 1:
        # On one machine the launcher sees who dies, and who is silent may only be suspended.
        patience = 3600 if coordinator.startswith("127.0.0.1:") else 100
        jax.distributed.initialize(coordinator, count, number, heartbeat_timeout_seconds=patience)
    stdout = None if jax.process_index() == 0 else io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout) if stdout else contextlib.nullcontext():
            yield
    except SystemExit as end:
        if end.code:
            _leave(end.code if isinstance(end.code, int) else 1, last=stdout is None)
    except BaseException:
        traceback.print_exc()
        _leave(1, last=stdout is None)


def _leave(code: int, last: bool) -> None:
    if last:  # the others lean on process 0
        time.sleep(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end_with_the_launcher() -> None:
    """Have Linux kill this process when its parent dies, for whatever reason.

    If only asked to stop, it might wait for a process that is gone, with nobody left to end it.
    """
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    with one_line_errors("launch"):
        sys.exit(main(parse(Args, __doc__)))
