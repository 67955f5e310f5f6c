"""Many runs of the command line, and kills of them, for the price of one start of Python.

Importing torch and its company takes seconds, a small command less. So one process imports everything and, for each run, forks a child
that calls the command line as the ``unseen`` script does. Why SIGKILL of such a child is a fair kill: the child is a process of its own,
leads its own session, and holds no file, lock or thread of the parent's (the parent only imports: it computes nothing, so no thread pool
exists that the child could be cut off from). The kernel ends it at an arbitrary instruction, without a handler, a ``finally`` or a
flush, and what it leaves on disk is what any process leaves there. What goes on afterwards is another child, which knows only the files.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

IMPORTS = (
    "unseen.cli unseen.scoring unseen.page unseen.recipes unseen.recipes.study unseen.attribution unseen.judge unseen.curate unseen.plots"
)
IMPORTS += (
    " polars lightning_fabric safetensors.torch sklearn.datasets sklearn.metrics scipy.stats matplotlib.figure rich.table PIL.Image jinja2"
)


class Ended(NamedTuple):
    """How a run ended. status: exit status, or minus the signal; seconds: from fork to end; words: stdout and stderr together."""

    status: int
    seconds: float
    words: str


class Server:
    """The parent. ``run`` gives it a command and waits for its end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
        self.output = folder / "output.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(self.output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | threads | environment,
            cwd=folder,
        )

    def run(self, *command: object, after: float | None = None, stop: int = signal.SIGKILL, limits: dict[str, int] | None = None) -> Ended:
        """Run ``unseen COMMAND``. after: seconds until it is sent the signal ``stop``. limits: of ``resource``, by name."""
        assert self.process.stdin and self.process.stdout
        asked = {"command": [str(word) for word in command], "after": after, "stop": int(stop), "limits": limits or {}}
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        self.process.stdin.flush()
        status, seconds = json.loads(self.process.stdout.readline())
        return Ended(status, seconds, self.output.read_text(encoding="utf-8", errors="replace"))

    def close(self) -> None:
        """End the parent."""
        self.process.communicate()


def _child(asked: dict, output: str) -> None:
    import resource

    from unseen import cli

    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    for name, limit in asked["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.argv = ["unseen", *(os.fsdecode(word.encode("utf-8")) for word in asked["command"])]  # as Python decodes a command line
    status = 1
    try:
        cli.entry()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _serve(output: str) -> None:
    import importlib

    import torch

    for name in IMPORTS.split():
        importlib.import_module(name)
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked, start = json.loads(line), time.perf_counter()
        child = os.fork()
        if not child:
            _child(asked, output)
        if asked["after"] is not None:
            time.sleep(max(0.0, asked["after"]))
            os.kill(child, asked["stop"])  # no other process can have its number: it is waited for only below
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start]), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
