"""A real Slurm for tests: munge, slurmctld and several slurmd on this host, in one folder, on loopback.

Debian's packages, installed where that is allowed. Every daemon dies with the tests, and every job with
its node's daemon.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil
import pytest

from tasks.processes.embedded_server import free_port
from tasks.processes.lifeline import PARENT

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
BECOME = (
    "import os, sys; from tasks.processes.lifeline import die_with_parent; die_with_parent(); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""A daemon of a test that is killed goes with it."""
SBIN = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/munge.sock
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
PlugStackConfig={root}/plugstack.conf
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
KillWait=5
OverTimeLimit=0
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout_s}
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


@dataclass
class PrivateSlurm:
    """A cluster with ``nodes`` nodes of one (fake) GPU each; its folder's path must be short."""

    nodes: int = 2
    cpus: int = 4
    memory_mb: int = 8000
    slurmd_timeout_s: int = 30
    root: Path = field(init=False)

    def __enter__(self) -> PrivateSlurm:
        # Unix sockets take 108 bytes: pytest's own folders are too deep.
        self.root = Path(tempfile.mkdtemp(prefix="sl"))
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._guardian = subprocess.Popen(
            [sys.executable, __file__, self.environment["SLURM_CONF"]],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._configure()
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, subprocess.SubprocessError):
            self.call("scancel", "--full", "--user", str(os.getuid()), timeout_s=10)
        self._guardian.communicate()  # it sees to the processes of jobs, now and if the tests are killed
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What ``sbatch`` and its like need to find this cluster."""
        return {"SLURM_CONF": str(self.root / "slurm.conf")}

    def call(self, *command: str, timeout_s: float = 30) -> str:
        """Run a command of Slurm's and return what it says."""
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout_s,
            env={**os.environ, **self.environment},
        )
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """The ids of jobs that wait, run or end; or of those in the states alone."""
        chosen = ["--states", ",".join(states)] if states else []
        return self.call("squeue", "--noheader", "--format=%i", *chosen).split()

    def processes_of_jobs(self) -> list[psutil.Process]:
        """The step daemons of this cluster's jobs with all that runs below them."""
        return processes_of_jobs(self.environment["SLURM_CONF"])

    def kill_node(self, name: str) -> None:
        """As if its power failed: no daemon, and none of the processes of its jobs."""
        self.kill_daemon(name)
        steps, others = [], []
        for process in self.processes_of_jobs():
            with suppress(psutil.Error, OSError):
                if node_of(process) == name:
                    others.append(process)
                    steps += [parent for parent in process.parents() if parent.name() == "slurmstepd"]
        # The step daemons first, known by what they have started: they would still say that a job has ended.
        for process in [*steps, *others]:
            with suppress(psutil.Error):
                process.kill()

    def kill_daemon(self, name: str) -> None:
        """The node's daemon alone: what runs on it goes on."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        self._daemon(name, "slurmd", "-D", "-N", name)

    def _configure(self) -> None:
        for folder in ("munge", "state", "run", "log", "dev", *(f"spool/{n}" for n in self.names)):
            (self.root / folder).mkdir(parents=True, mode=0o755)
        (self.root / "munge").chmod(0o700)
        (self.root / "munge" / "key").write_bytes(os.urandom(128))
        (self.root / "munge" / "key").chmod(0o600)
        (self.root / "plugstack.conf").touch()
        lines, gpus = [], []
        host = socket.gethostname()
        for number, name in enumerate(self.names):
            device = self.root / "dev" / f"nvidia{number}"
            device.symlink_to(os.devnull)  # slurmd wants a device node
            gpus.append(f"NodeName={name} Name=gpu Flags=nvidia_gpu_env File={device}")
            lines.append(
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} "
                f"CPUs={self.cpus} RealMemory={self.memory_mb} Gres=gpu:1 State=UNKNOWN"
            )
        (self.root / "gres.conf").write_text("\n".join(gpus) + "\n")
        (self.root / "cgroup.conf").write_text(
            "CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n"
        )
        text = CONFIGURATION.format(
            host=host,
            port=free_port(),
            user=Path("/proc/self").owner(),
            root=self.root,
            nodes="\n".join(lines),
            slurmd_timeout_s=self.slurmd_timeout_s,
        )
        (self.root / "slurm.conf").write_text(text)

    @property
    def names(self) -> list[str]:
        """The names of the nodes."""
        return [f"node{number}" for number in range(1, self.nodes + 1)]

    def _start(self) -> None:
        munge = self.root / "munge"
        self._daemon(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={munge}/key",
            f"--socket={munge}/munge.sock",
            f"--pid-file={munge}/pid",
            f"--seed-file={munge}/seed",
            f"--log-file={munge}/log",
        )
        self._wait((munge / "munge.sock").exists)
        self._daemon("slurmctld", "slurmctld", "-D", "-i")
        for name in self.names:
            self.start_node(name)
        self._wait(self.idle)

    def settle(self) -> None:
        """Cancel what is queued, and wait until every node is idle again."""
        for name in self.names:
            if name not in self._daemons:
                self.start_node(name)
        left = self.jobs()
        if left:
            self.call("scancel", *left)
        self._wait(self.idle)

    def idle(self) -> bool:
        """Whether every node waits for work."""
        try:
            states = self.call("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%t").split()
        except subprocess.CalledProcessError:
            return False
        return states == ["idle"] * self.nodes

    def _daemon(self, name: str, *command: str) -> None:
        program = shutil.which(command[0], path=SBIN)
        assert program is not None, command[0]
        with (self.root / "log" / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [sys.executable, "-c", BECOME, program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, "PATH": SBIN, PARENT: str(os.getpid())},
                start_new_session=True,
            )

    def _wait(self, ready: object) -> None:
        assert callable(ready)
        deadline = time.monotonic() + 60
        while not ready():
            if time.monotonic() > deadline:
                logs = sorted((self.root / "log").iterdir())
                raise RuntimeError("\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs))
            time.sleep(0.1)


def processes_of_jobs(configuration: str) -> list[psutil.Process]:
    """What runs for the jobs of the cluster of a configuration file."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = environment_of(process) if process.pid != os.getpid() else {}
            ours = environment.get("SLURM_CONF") == configuration
            if ours and ("SLURM_JOB_ID" in environment or process.name() == "slurmstepd"):
                found.append(process)
    return found


def environment_of(process: psutil.Process) -> dict[str, str]:
    """As psutil has it, which ends where slurmstepd has written its title over the block's beginning."""
    block = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    return dict(variable.decode(errors="replace").split("=", 1) for variable in block if b"=" in variable)


def node_of(process: psutil.Process) -> str | None:
    """The node on which a job's process runs."""
    return environment_of(process).get("SLURMD_NODENAME")


def require_slurm() -> None:
    """Install Slurm where that is allowed, or skip with a visible line."""
    if shutil.which("slurmctld", path=SBIN) is None:
        from apt_packages import require_packages

        require_packages("Slurm", PACKAGES)
    if not Path("/proc/self").exists():
        pytest.skip("Slurm for tests needs Linux")


if __name__ == "__main__":
    sys.stdin.read()  # until whoever started this is done, or dead
    for left in processes_of_jobs(sys.argv[1]):
        with suppress(psutil.Error):
            left.kill()
    shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
