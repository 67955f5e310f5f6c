"""Several processes at one job: those of ``--devices N``, or those that ``torchrun`` started, on one machine or many.

Every process makes the same calls, and all meet in the run's folder, which they must share.
"""

import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from unseen.errors import UnseenError
from unseen.torchrun import is_first, process_count, started_by_torchrun

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from unseen.runs import Run

Result = TypeVar("Result")
KEPT = "What was finished is kept; the same command with --resume goes on."
PATIENCE = 10.0  # seconds that a process whose connection broke gives the one that broke it to be seen first


def make_fabric(processes: int = 1, precision: str = "auto") -> "Fabric":
    """Lightning Fabric with our defaults: this process alone on one device, or ``processes`` with the same weights on parts of a batch.

    precision: "bf16", "32", or "auto" for bf16 where the hardware multiplies it faster.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    if precision == "auto":
        precision = "bf16" if bf16_gains() else "32"
    options: dict[str, Any] = {"devices": processes, "strategy": "auto"}
    if processes > 1:
        options["strategy"] = DDPStrategy(broadcast_buffers=False, start_method="popen" if started_by_torchrun() else "spawn")
        if started_by_torchrun():
            options["devices"] = int(os.environ["LOCAL_WORLD_SIZE"])
            options["num_nodes"] = processes // options["devices"]
    elif started_by_torchrun() and torch.cuda.is_available():
        options["devices"] = [int(os.environ["LOCAL_RANK"])]
    for name in ("utilities.rank_zero", "utilities.distributed"):  # they announce the precision, and every process
        logging.getLogger(f"lightning_fabric.{name}").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Fabric(accelerator="auto", precision="bf16-mixed" if precision == "bf16" else "32-true", **options)


def bf16_gains() -> bool:
    """Whether this machine has instructions for bf16 matrix products."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.backends.mkldnn.is_available() and has_instructions)


def launch(job: "Callable[[Fabric], object]", devices: int = 1, precision: str = "auto") -> None:
    """Call ``job(fabric)`` in every process. What it finds, it leaves in files.

    Raises:
        UnseenError: where a process raised it, or ended before its time: then the others are ended too.
    """
    fabric = make_fabric(process_count(devices), precision)
    if fabric.world_size == 1:
        job(fabric)
    elif started_by_torchrun():
        _join()
        fabric.launch()
        _heard(job, fabric, 0.0)
        distributed.barrier()
    else:
        _spawn(job, fabric)


def first(call: Callable[[], Result]) -> Result:
    """What ``call`` returns in the first of torchrun's processes, while the others wait; an UnseenError is raised in all of them."""
    if not started_by_torchrun():
        return call()
    _join()
    box: list[Any] = [None, None]
    if is_first():
        try:
            box[0] = call()
        except UnseenError as error:
            box[1] = str(error)
    distributed.broadcast_object_list(box)
    if box[1] is not None:
        raise UnseenError(box[1])
    result: Result = box[0]
    return result


@contextmanager
def holding(run: "Run") -> Iterator[None]:
    """Keep others from writing the run while these processes do: the first holds it for all. Raises UnseenError as ``Run.alone``."""
    with ExitStack() as stack:
        first(lambda: stack.enter_context(run.alone()))
        if not is_first():
            stack.enter_context(run.held())
        yield


def share(count: int, rank: int, world: int) -> slice:
    """Process ``rank``'s part of ``count`` things in a row, of ``world`` parts of about equal size."""
    return slice(count * rank // world, count * (rank + 1) // world)


def _join() -> None:
    """Form the group of torchrun's processes, once."""
    import atexit

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(lambda: distributed.is_initialized() and distributed.destroy_process_group())


def _spawn(job: "Callable[[Fabric], object]", fabric: "Fabric") -> None:
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it announces whom it ends
    try:
        # one function of one argument: Fabric takes arguments that are frozen dataclasses apart
        fabric.launch(partial(_heard, job, patience=PATIENCE))
    except ProcessExitedException as error:
        how = error.signal_name or f"exit code {error.exit_code}"
        raise UnseenError(
            f"Process {error.error_index} of {fabric.world_size} was ended by {how}, and the others with it. {KEPT}"
        ) from error
    except ProcessRaisedException as error:
        told = re.search(r"unseen\.errors\.UnseenError: (.*)", str(error), re.DOTALL)
        if told is None:
            raise
        raise UnseenError(told[1].strip()) from None


def _heard(job: "Callable[[Fabric], object]", fabric: "Fabric", patience: float) -> None:
    """``job(fabric)``; where the connection to another process breaks, an error that says so, after ``patience`` seconds."""
    for old in ("broadcast_buffers", "functional.all_gather"):  # what takes their place is not in every version of PyTorch
        warnings.filterwarnings("ignore", f".*{old}.? is deprecated")
    try:
        job(fabric)  # its result would block a pipe
    except RuntimeError as error:
        if not re.search("gloo|nccl|connection", str(error), re.IGNORECASE):
            raise
        time.sleep(patience)
        where = f"Process {fabric.global_rank} of {fabric.world_size} lost another process of this run, which says why where it ran"
        raise UnseenError(f"{where} ({str(error).splitlines()[0]}). {KEPT}") from error
