"""The end of a training that others run: the run folder is written, or what was recorded is kept for another try."""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from unseen.errors import UnseenError
from unseen.runs import Run
from unseen.scoring import Recorder


def check_ids(options: dict[str, Any], examples: int) -> None:
    """Before the training: whether there is an id for every example. Raises UnseenError where there are fewer."""
    ids = options.get("ids")
    if ids is not None and len(ids) < examples:
        raise UnseenError(f"There are {len(ids):,} ids for {examples:,} examples. Give one for each, in the order of the data set.")


def saved(recorder: Recorder, path: str | Path, options: dict[str, Any]) -> Run | None:
    """Save the run, or warn of why that failed and keep what was recorded beside it: a training that is done is never lost.

    Args:
        recorder: after the last epoch.
        path: of the run folder.
        options: of ``Recorder.save``.

    Returns:
        The run, or None where it could not be saved.
    """
    try:
        return recorder.save(path, **options)
    except (UnseenError, OSError, TypeError) as error:
        warnings.warn(f"The training is done, but its run was not saved. {error}{_kept(recorder, Path(path))}", stacklevel=2)
        return None


def _kept(recorder: Recorder, path: Path) -> str:
    """Write the recorder's state beside the folder; how to go on from it, in a sentence."""
    state = recorder.state_dict()
    if len(state) == 1:  # the epoch alone
        return ""
    rank = f"-rank-{torch.distributed.get_rank()}" if torch.distributed.is_initialized() else ""
    file = path.with_name(f"{path.name}-recorder{rank}.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, file)
    return (
        f" What was recorded is in {file}. To save it: recorder = unseen.Recorder(); "
        f"recorder.load_state_dict(safetensors.torch.load_file({str(file)!r})); recorder.save(PATH)."
    )
