"""Where a run comes from: made here by this user, or a stranger's, whose paths lead nowhere without consent.

A run that is made here holds ``origin.json``: the folder that its relative paths start from, and a mark that only this user's key gives.
The key lies in ``$XDG_STATE_HOME/unseen/key`` (``~/.local/state/unseen/key``), is made at the first run, and never leaves the machine.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.errors import UnseenError
from unseen.runs.files import read_regular, whole
from unseen.runs.schema import LARGEST_JSON, json_fault

if TYPE_CHECKING:
    from unseen.runs.run import Run

NAME = "origin.json"
KEY_BYTES = 32
HUB = "hf:"


def write_origin(run: "Run", config: Mapping[str, Any]) -> None:
    """Say that a run was made by this user, from the current folder. Without a place for the key nothing is written."""
    folder = str(Path.cwd())
    if (key := _key(make=True)) is not None:
        run.write_json(NAME, {"folder": folder, "mark": _mark(key, config, folder)})


def home_of(run: "Run") -> Path | None:
    """The folder that the run's relative paths start from, where this user made it; None for a stranger's run."""
    origin, key = _said(run.path / NAME), _key(make=False)
    config = run.read_json("config.json")
    if key is None or origin is None or not hmac.compare_digest(origin["mark"], _mark(key, config, origin["folder"])):
        return None
    return Path(origin["folder"])


def source_of(run: "Run", names: tuple[str, ...] = ()) -> str:
    """What to load as the run's data: a name, ``hf:owner/name``, or a path, a relative one from where the run was made.

    Args: names: of data sets that need no path.

    Raises UnseenError for a stranger's run that names what lies outside of its own folder, or on the network, unless the run is trusted
    (``--trust-paths``, ``open_run(path, trust_paths=True)``).
    """
    config = run.config
    home = home_of(run)
    mine = home is not None or run.trusted
    lists = [text for text in (*config.watch, *((config.train_on,) if config.train_on else ())) if "@" in text]
    for said in [*lists, *((config.scores,) if config.scores else ())]:
        if not mine:
            raise _foreign(run, said)
    if config.data in names:
        return config.data
    if config.data.startswith(HUB):
        if not mine:
            raise _foreign(run, config.data)
        return config.data
    inside = run.path / config.data
    if not mine and config.data and inside.resolve().is_relative_to(run.path.resolve()) and inside.exists():
        return str(inside)
    if not mine and _names_a_place(config.data):
        raise _foreign(run, config.data)
    if home is not None and (home / config.data).exists():
        return str(home / config.data)
    return config.data


def _names_a_place(data: str) -> bool:
    """Whether this can be a path: nobody is told which ones are there."""
    return os.path.lexists(data) or os.sep in data or "." in data


def _foreign(run: "Run", said: str) -> UnseenError:
    return UnseenError(
        f"{run.path} names {said!r}, outside of its own folder, and it was not made here by you. If you know where it comes from, add "
        "--trust-paths (open_run(path, trust_paths=True))."
    )


def _said(path: Path) -> dict[str, str] | None:
    """What the file says; None where there is none, or none that a run of this user's could have."""
    try:
        value = json.loads(read_regular(path, LARGEST_JSON).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return None if json_fault(NAME, value) else value


def _mark(key: bytes, config: Mapping[str, Any], folder: str) -> str:
    said = json.dumps([config, folder], sort_keys=True).encode()
    return hashlib.blake2b(said, key=key, digest_size=16).hexdigest()


def _key(make: bool) -> bytes | None:
    """This user's key; None where there is none, and none can be kept."""
    try:
        path = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "unseen" / "key"
        if make and not path.exists():
            with whole(path, replace=False) as temporary:
                temporary.chmod(0o600)
                temporary.write_bytes(secrets.token_bytes(KEY_BYTES))
        found = read_regular(path, KEY_BYTES)
    except (OSError, UnseenError, RuntimeError):  # no home, or one that cannot be written
        return None
    return found if len(found) == KEY_BYTES else None
