"""A Slurm cluster of this one host, for tests: munged, slurmctld and slurmd in a folder of their own.

They come with Debian's packages `slurm-wlm` and `munge`, and start as root only. The partition `low` is
pre-empted by `high`: its jobs get SIGTERM, and 30 seconds to end.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cnnjax.machine import usable_cores

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIG = """
ClusterName=one
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
KillWait=30
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


def can_start() -> bool:
    """Whether the daemons are installed and may be started."""
    return os.geteuid() == 0 and all(map(_daemon, DAEMONS))


def _daemon(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start the cluster; yields the environment in which Slurm's commands talk to it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    cores = len(usable_cores())
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, ports=_free_ports(2), cores=cores))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(config)}
    own = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    commands = {
        "munged": ["--foreground", "--force", f"--key-file={key}", *own],
        "slurmctld": ["-D", "-c"],
        "slurmd": ["-D", "-c"],
    }
    started = []
    try:
        for name, arguments in commands.items():
            with (folder / f"{name}.out").open("w") as out:
                command = [str(_daemon(name)), *arguments]
                started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            if name == "munged":
                wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        ready = ["sinfo", "--noheader", "--partition=low", "--format=%t"]
        wait_for(lambda: ask(ready, environment) == "idle", "an idle node")
        yield environment
    finally:
        if len(started) == len(commands):  # of a test that failed
            ask(["scancel", "--partition=low"], environment)
            wait_for(lambda: not ask(["squeue", "--noheader"], environment), "the end of all jobs")
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def ask(command: list[str], environment: Mapping[str, str]) -> str:
    """What one of Slurm's commands prints."""
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()


def wait_for(condition, what: str, seconds: float = 300) -> None:
    """Until it is so; a test that waits longer fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.5)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
