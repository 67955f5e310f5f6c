"""Several processes: the same scores as one, on one machine and on two; and what is left when one of them dies."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from small_runs import FAST, equal, tables
from unseen import UnseenError, score
from unseen.attribution.job import influence as run_influence
from unseen.judge.job import truth as write_truth
from unseen.runs.run import open_run
from unseen.training.processes import launch

OPTIONS = FAST | {"epochs": 2, "batch_size": 100, "precision": "32"}
MEMBERS = OPTIONS | {"estimator": "members", "members": 32}


def everything(folder, devices=1, **more):
    """Both estimators, the truth and influence."""
    run = score("digits", out=folder / "turnover", devices=devices, **OPTIONS, **more)
    score("digits", out=folder / "members", devices=devices, **MEMBERS, **more)
    write_truth(run, members=16, devices=devices)
    run_influence(run, "test[:9]", 5, devices=devices)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    everything(folder)
    return folder


def agree(one, other):
    for name, columns in {
        "turnover": ["loss_seen", "loss_unseen", "loss_full", "memorization", "label_score", "cumulative_loss"],
        "members": ["loss_seen", "loss_unseen", "memorization", "memorization_se", "label_score", "unseen_loss_mean"],
    }.items():
        first, second = open_run(one / name).scores, open_run(other / name).scores
        assert max((first[column] - second[column]).abs().max() for column in columns) < 1e-4
        assert len(open_run(one / name).history) == len(open_run(other / name).history)
    ranks = [open_run(folder / "members").scores["memorization_rank"] for folder in (one, other)]
    assert (ranks[0] - ranks[1]).abs().max() < 0.01
    first, second = (open_run(folder / "turnover") for folder in (one, other))
    assert (first.table("truth")["memorization"] - second.table("truth")["memorization"]).abs().max() < 1e-4
    first, second = (run.table("influence").sort("query_index", "side", "rank") for run in (first, second))
    assert len(first) == len(second) and (first["influence"] - second["influence"]).abs().max() < 1e-4
    assert not list(other.rglob("*.tmp")) and not list(other.rglob("influence-*"))


def test_two_processes_agree_with_one(alone, tmp_path):
    everything(tmp_path, devices=2)
    agree(alone, tmp_path)


def kill_when(path, victim):
    while not path.exists():
        time.sleep(0.005)
    os.kill(victim(), signal.SIGKILL)


def test_a_process_that_dies_ends_the_run_and_the_run_goes_on(tmp_path):
    options = OPTIONS | {"epochs": 8}
    whole = score("digits", out=tmp_path / "whole", devices=2, **options)
    state = tmp_path / "run" / "weights" / "seed-0.safetensors"
    killer = threading.Thread(target=kill_when, args=(state, lambda: multiprocessing.active_children()[-1].pid))
    killer.start()
    with pytest.raises(UnseenError, match=r"Process . of 2 was ended by SIGKILL.*--resume"):
        score("digits", out=tmp_path / "run", devices=2, **options)
    killer.join()
    again = score("digits", out=tmp_path / "run", devices=2, resume=True, **options)
    assert equal(tables(again), tables(whole))


def fails_in_one(fabric):
    if fabric.global_rank == 1:
        raise UnseenError("The value 7 is too large.")
    fabric.barrier()


def test_the_error_of_one_process_is_the_error_of_all():
    with pytest.raises(UnseenError, match=r"^The value 7 is too large\.$"):
        launch(fails_in_one, 2, "32")


NODE = """
import os, signal, sys, threading
from pathlib import Path
sys.path[:0] = {tests!r}
import test_processes as t
folder = Path(sys.argv[1])
if sys.argv[2] == "die" and os.environ["RANK"] == "1":
    threading.Thread(target=t.kill_when, args=(folder / "turnover/weights/seed-0.safetensors", os.getpid), daemon=True).start()
if __name__ == "__main__":
    from unseen.cli import main
    t.everything(folder, **({{"resume": True}} if sys.argv[2] == "resume" else {{}}))
"""


@pytest.fixture(scope="module")
def hosts():
    """Two hosts that see each other: network namespaces with a cable between them; or this one twice, where that is not allowed."""
    names = ["unseen-a", "unseen-b"]
    plan = [f"ip netns add {name}" for name in names]
    plan += ["ip link add unseen-x netns unseen-a type veth peer name unseen-y netns unseen-b"]
    for name, device, number in zip(names, ("unseen-x", "unseen-y"), (1, 2), strict=True):
        enter = f"ip -n {name}"
        plan += [f"{enter} addr add 10.77.0.{number}/24 dev {device}", f"{enter} link set {device} up", f"{enter} link set lo up"]
    allowed = shutil.which("ip") and all(subprocess.run(step.split(), capture_output=True).returncode == 0 for step in plan)
    if allowed:
        yield [
            ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={device}"]
            for name, device in zip(names, ("unseen-x", "unseen-y"), strict=True)
        ]
    else:
        yield [[], []]
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True) if shutil.which("ip") else None


def on_two_hosts(hosts, port, script, *arguments):
    """Exit status and standard error of each host's torchrun. port: of one meeting only, for one that ends may hold it for a while."""
    address = "10.77.0.1" if hosts[0] else "127.0.0.1"
    common = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", address]
    common += ["--master-port", str(port)]
    started = [
        subprocess.Popen(
            [*host, *common, "--node-rank", str(rank), str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank, host in enumerate(hosts)
    ]
    said = [process.communicate(timeout=300)[1] for process in started]
    return [process.returncode for process in started], said


def test_two_hosts_under_torchrun(hosts, alone, tmp_path):
    script = tmp_path / "node.py"
    script.write_text(NODE.format(tests=[str(folder) for folder in Path(__file__).parents[:2]]))
    codes, said = on_two_hosts(hosts, 29571, script, str(tmp_path / "runs"), "die")
    assert all(codes) and "Process 0 of 2 lost another process of this run" in said[0]
    codes, said = on_two_hosts(hosts, 29572, script, str(tmp_path / "runs"), "resume")
    assert codes == [0, 0], said
    agree(alone, tmp_path / "runs")
