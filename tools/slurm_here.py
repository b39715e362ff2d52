"""A Slurm cluster of this one machine, without systemd and without accounting: for trying jobs, not for work.

    python tools/slurm_here.py start FOLDER [--nodes 2]     then: export SLURM_CONF=FOLDER/slurm.conf; sbatch ...
    python tools/slurm_here.py stop FOLDER

Needs Debian's packages slurm-wlm and munge, and to be root. Everything it writes lies in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo")
_DEVICES = ("/dev/null", "/dev/zero")  # what Slurm takes for GPUs
_PATIENCE = 60.0  # seconds until the nodes must be idle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=1)
    args = parser.parse_args()
    if args.action == "stop":
        stop(args.folder)
        return 0
    lacking = missing()
    if lacking:
        print(f"not installed: {', '.join(lacking)}; apt-get install slurm-wlm munge", file=sys.stderr)
        return 2
    print(f"export SLURM_CONF={start(args.folder, args.nodes)}")
    return 0


def missing() -> list[str]:
    """Programs that a cluster needs and this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def start(folder: Path, nodes: int = 1, cpus: int = 2) -> Path:
    """Start munged, slurmctld and a slurmd per node; returns the slurm.conf once every node is idle.

    Each node has two GPUs that are none: enough to try what a job that asks for some makes of it.

    Raises RuntimeError, with the ends of the logs, where a node does not come up; nothing is left running then.
    """
    folder = folder.resolve()
    for name in ("munge", "state", "spool", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for parent in (folder / "munge", folder / "state", folder / "spool"):
        parent.chmod(0o755)
    conf = folder / "slurm.conf"
    conf.write_text(configuration(folder, nodes, cpus))
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in _DEVICES))
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    environment = surroundings(conf)
    munge = folder / "munge"
    try:
        _run(
            ["munged", "--force", f"--key-file={key}", f"--socket={munge / 'socket'}", f"--pid-file={munge / 'pid'}",
             f"--seed-file={munge / 'seed'}", f"--log-file={folder / 'log' / 'munged'}"],
            environment,
        )  # fmt: skip
        _run(["slurmctld", "-f", str(conf), "-c"], environment)
        for number in range(1, nodes + 1):
            _run(["slurmd", "-f", str(conf), "-N", f"here{number}", "-c"], environment)
        _wait_until_idle(folder, nodes, environment)
    except RuntimeError:
        stop(folder)
        raise
    return conf


def stop(folder: Path) -> None:
    """End the daemons of a folder, jobs first."""
    folder = folder.resolve()
    conf = folder / "slurm.conf"
    if conf.exists():
        subprocess.run(["scancel", "--user=root", "--full"], env=surroundings(conf), check=False, capture_output=True)
    for pid in [*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid", folder / "munge" / "pid"]:
        if pid.exists():
            _end(int(pid.read_text()))


def surroundings(conf: Path) -> dict[str, str]:
    """The environment in which Slurm's commands find this cluster."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return kept | {"SLURM_CONF": str(conf), "PATH": path}


def configuration(folder: Path, nodes: int, cpus: int) -> str:
    """slurm.conf: every node is this machine under another name and port."""
    host = socket.gethostname()
    ports = _free_ports(nodes + 1)
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    lines = [
        "ClusterName=here",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder / 'munge' / 'socket'}",
        "CredType=cred/munge",
        "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU",
        "GresTypes=gpu",
        "SchedulerParameters=sched_interval=5,batch_sched_delay=0,requeue_delay=2",
        "AccountingStorageType=accounting_storage/none",
        "JobAcctGatherType=jobacct_gather/none",
        "ReturnToService=2",
        "JobRequeue=1",
        "KillWait=5",
        "SlurmdParameters=config_overrides",
        f"StateSaveLocation={folder / 'state'}",
        f"SlurmdSpoolDir={folder / 'spool'}/%n",
        f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder / 'log' / 'slurmctld'}",
        f"SlurmdLogFile={folder / 'log'}/slurmd-%n",
    ]
    for number in range(1, nodes + 1):
        place = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[number]}"
        lines.append(f"NodeName=here{number} {place} CPUs={cpus} RealMemory={megabytes} Gres=gpu:{len(_DEVICES)}")
    lines.append("PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
    return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    opened = [socket.socket() for _ in range(count)]
    for one in opened:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in opened]
    for one in opened:
        one.close()
    return ports


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode().strip()}")


def _wait_until_idle(folder: Path, nodes: int, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    shown = ""
    while time.monotonic() < deadline:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"], env=environment, check=False, capture_output=True
        )
        shown = asked.stdout.decode()
        if shown.split() == ["idle"] * nodes:
            return
        time.sleep(0.5)
    logs = "".join(f"\n{path}: {path.read_text()[-500:]}" for path in sorted((folder / "log").iterdir()))
    raise RuntimeError(f"the nodes are {shown.split()}, not idle, after {_PATIENCE:.0f} s{logs}")


def _end(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(50):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
