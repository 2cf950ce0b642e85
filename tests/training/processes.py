"""Training in processes of its own: one, or several that share the batch over gloo.

A server imports what training needs once and forks, so that a run starts in a moment and can be
killed often. The processes of a run are a process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SERVER = r"""
import json, os, sys
import torch
torch.set_num_threads(1)
import accelerate, cv2, tifffile, torch.distributed, torch.nn.parallel
import torch._dynamo
from differential_diffusion.training.__main__ import main

def child(task, rank, environment):
    if environment:
        os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        code = main([task["configs"][rank]])
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    task = json.loads(line)
    if "wait" in task:
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in task["wait"]]))
    else:
        pids = []
        for rank in range(task["count"]):
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, pids[0] if pids else 0)
                child(task, rank, task["environment"])
            os.setpgid(pid, pids[0] if pids else pid)
            pids.append(pid)
        print(json.dumps(pids))
    sys.stdout.flush()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """Forks runs."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, task: dict[str, object]) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer: list[int] = json.loads(self.process.stdout.readline())
        return answer

    def start(self, config: Path, count: int = 1, *, second: Path | None = None) -> Run:
        """A run of `count` processes, the second of which may have another configuration."""
        world = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        log = config.with_suffix(".log")
        log.write_text("")
        task = {
            "configs": [str(config), str(second or config)],
            "count": count,
            "log": str(log),
            "environment": world if count > 1 else {},
        }
        return Run(self, self.ask(task), log)

    def train(self, config: Path, count: int = 1) -> None:
        """A run to its end."""
        run = self.start(config, count)
        assert run.wait() == [0] * count, run.log.read_text()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Run:
    """Processes that train together."""

    def __init__(self, server: Server, pids: Sequence[int], log: Path) -> None:
        self.server, self.pids, self.log = server, list(pids), log

    def signal(self, number: int, rank: int | None = None) -> None:
        """Send a signal to one process, or to all."""
        with contextlib.suppress(ProcessLookupError):
            if rank is None:
                os.killpg(self.pids[0], number)
            else:
                os.kill(self.pids[rank], number)

    def running(self) -> bool:
        """Whether none has ended."""
        return all(alive(pid) for pid in self.pids)

    def until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something to happen, or the run to end."""
        end = time.monotonic() + seconds
        while not ready() and self.running():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.002)

    def wait(self, seconds: float = 120) -> list[int]:
        """The exit codes; a process that lingers is killed and fails the test."""
        end = time.monotonic() + seconds
        while any(alive(pid) for pid in self.pids):
            if time.monotonic() > end:
                self.signal(signal.SIGKILL)
                self.server.ask({"wait": self.pids})
                raise AssertionError("a process lingers:\n" + self.log.read_text())
            time.sleep(0.01)
        return self.server.ask({"wait": self.pids})


def alive(pid: int) -> bool:
    """Whether a process runs: neither ended nor waiting to be asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
