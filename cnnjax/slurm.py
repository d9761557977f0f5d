"""Jobs for Slurm that go on, after pre-emption and at their time limit, until the command is done."""

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import tyro

from cnnjax.errors import UserError
from cnnjax.files import replacing
from cnnjax.watchdog import EXIT_CODE

SCRIPT = """\
#!/bin/bash
{directives}

# To Slurm a job that saved its state and ended when it was asked to is done: it has to queue itself again. It
# also does so, {retries} times, when a process was killed or got nothing done ({stuck}).
export PATH={path}:$PATH
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take it over

again() {{
    echo "cnnjax: $1, queued again"
    scontrol requeue "$SLURM_JOB_ID" && sleep 300  # in which Slurm ends this script
}}

srun --kill-on-bad-exit=0 --wait=60 {command}
code=$?
case $code in
0) ;;
130 | 143) again "stopped" ;;
{stuck} | 12[89] | 13[1-9])
    log=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *StdOut=//p')
    [ "$(grep -c '^cnnjax: went wrong' "$log")" -ge {retries} ] || again "went wrong (code $code)"
    ;;
esac
exit $code
"""
RETRIES = 3


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Write, and with --submit send, a job for Slurm that goes on after pre-emption until it is done."""

    command: tyro.conf.Positional[tuple[str, ...]]
    """What each process runs, after `--`."""
    nodes: int = 1
    """Hosts."""
    tasks: int | None = None
    """Processes on all nodes together; one a node when not given."""
    partition: str | None = None
    """Of the cluster."""
    time: str | None = None
    """Limit as Slurm writes it, such as 4:00:00; a job that reaches it is queued again and goes on."""
    parts: int | None = None
    """Divide an experiment's runs among so many jobs of an array; the last to end draws its figure."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, such as gpus-per-task=4 account=physics."""
    name: str | None = None
    """Of the job, its script and its log; by default that of the experiment or verb."""
    grace: int = 120
    """Seconds before the time limit at which it is asked to save and stop."""
    patience: int = 1800
    """Seconds without a step after which the processes write their stacks, and it is queued again."""
    submit: bool = False
    """Send it."""

    def __post_init__(self) -> None:
        if not self.command:
            raise UserError("what shall be run? Such as: -- python -m experiments.degradation")
        for name in ("nodes", "tasks", "parts", "grace", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} {value}: must be at least 1")
        if self.tasks is not None and self.tasks < self.nodes:
            raise UserError(f"--tasks {self.tasks}: must be at least one for each of the {self.nodes} nodes")
        if self.time is not None and _seconds(self.time) < 2 * self.grace:
            raise UserError(
                f"--time {self.time}: is less than twice --grace {self.grace}, the seconds before it that "
                "the job is asked to stop: it would not get far"
            )
        if wrong := [option for option in self.options if not re.fullmatch(r"[a-z][a-z-]*(=\S+)?", option)]:
            raise UserError(f"--options {wrong[0]}: must be as sbatch has it, such as gpus-per-task=4")
        if not re.fullmatch(r"[\w.-]+", self.job_name):
            raise UserError(f"--name {self.job_name}: must be letters, digits, dots and dashes")

    @property
    def job_name(self) -> str:
        """`name`, or that of the experiment or script, or the verb of cnnjax."""
        words = [word for word in self.command if not word.startswith("-")] or ["job"]
        word = words[:2][-1]
        file = Path(word).name.removesuffix(".py") if "/" in word else word.rpartition(".")[2]
        return self.name or file

    def run(self) -> None:
        """Write the script, and print where it is, or the number of the job that was sent."""
        path, text = Path(f"{self.job_name}.sbatch"), self.script()
        if path.exists() and path.read_text() != text:
            raise UserError(
                f"{path} holds another job: give this one a --name of its own, or remove the file"
            )
        said = f"send it with `sbatch {path}`"
        if self.submit:
            if not shutil.which("sbatch"):
                raise UserError("there is no sbatch here: leave out --submit, send the script on the cluster")
            sent = subprocess.run(["sbatch", "--parsable"], input=text, capture_output=True, text=True)
            if sent.returncode:
                raise UserError(f"sbatch refused the job: {' '.join(sent.stderr.split())}")
            said = f"sent as job {sent.stdout.strip().partition(';')[0]}"
        with replacing(path) as file:  # after it was accepted: what is refused leaves no script behind
            file.write(text)
        print(f"{path}: {said}")

    def script(self) -> str:
        """The text of the batch script."""
        tasks = self.tasks or self.nodes
        directives = {
            "job-name": self.job_name,
            "nodes": self.nodes,
            "ntasks": tasks,
            "partition": self.partition,
            "time": self.time,
            "array": None if self.parts is None else f"0-{self.parts - 1}",
            "output": f"{self.job_name}-{'%j' if self.parts is None else '%A_%a'}.log",
            "open-mode": "append",
            "signal": f"TERM@{self.grace}",
        }
        lines = [f"--{name}={value}" for name, value in directives.items() if value is not None]
        lines += ["--requeue", *(f"--{option}" for option in self.options)]
        return SCRIPT.format(
            directives="\n".join(f"#SBATCH {line}" for line in lines),
            path=shlex.quote(str(Path(sys.executable).parent)),
            command=self._of_each_task(tasks),
            stuck=EXIT_CODE,
            retries=RETRIES,
        )

    def _of_each_task(self, tasks: int) -> str:
        command = shlex.join(self.command)
        if self.parts is not None:
            command += f' --part "$SLURM_ARRAY_TASK_ID/{self.parts}"'
        several = "--coordinator auto" if tasks > 1 else "--processes 1"
        return f"python -m cnnjax.launch {several} --patience {self.patience} -- {command}"


def _seconds(time: str) -> int:
    """Of minutes, minutes:seconds, hours:minutes:seconds, or days- before hours[:minutes[:seconds]]."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if found is None:
        raise UserError(f"--time {time}: must be as Slurm writes it, such as 4:00:00 or 2-12")
    days, *parts = (int(part) if part is not None else None for part in found.groups())
    given = [part for part in parts if part is not None]
    if days is None and len(given) < 3:
        given = [0, *given]
    hours, minutes, seconds = (*given, 0, 0, 0)[:3]
    return ((24 * (days or 0) + hours) * 60 + minutes) * 60 + seconds
