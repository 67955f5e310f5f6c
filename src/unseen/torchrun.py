"""What torchrun says of this process, read from the environment, so that asking costs nothing."""

import os


def started_by_torchrun() -> bool:
    """Whether ``torchrun`` started this process, and others with it."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def process_count(devices: int = 1) -> int:
    """How many processes share a job: torchrun's, or ``devices``."""
    return int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else devices


def is_first() -> bool:
    """Whether this process is the one that prints, and writes what there is one of."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"


def place() -> tuple[int, int]:
    """Which of torchrun's processes this is, from 0, and of how many; (0, 1) where it did not start this one."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if started_by_torchrun() else (0, 1)
