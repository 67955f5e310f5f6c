"""Shared data of the tests."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
import torch

import unseen

os.environ.setdefault("UNSEEN_CACHE", tempfile.mkdtemp())  # features of tests stay among them
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()  # the key that marks runs as one's own
for stop in ("SIGINT", "SIGHUP"):  # a shell's job in the background ignores them, and so would the commands that tests stop
    if hasattr(signal, stop) and signal.getsignal(getattr(signal, stop)) == signal.SIG_IGN:
        signal.signal(getattr(signal, stop), signal.default_int_handler if stop == "SIGINT" else signal.SIG_DFL)
torch.set_num_threads(1)  # small networks; and tests may share the machine


def real_data() -> Path | None:
    """The folder of the real data sets, where this machine has it."""
    for folder in (os.environ.get("UNSEEN_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and (Path(folder) / "mnist").exists():
            return Path(folder)
    return None


@pytest.fixture(scope="session")
def data_dir():
    folder = real_data()
    if folder is None:
        pytest.skip("no real data: set UNSEEN_DATA to the folder of mnist/")
    return folder


@pytest.fixture(scope="session")
def digits():
    return unseen.load("digits")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
