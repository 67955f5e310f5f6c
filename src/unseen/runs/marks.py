"""A mark that says who made a run: only this user's key gives it.

The key lies in ``$XDG_STATE_HOME/unseen/key`` (``~/.local/state/unseen/key``), is made at the first run, and never leaves the machine.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unseen.errors import UnseenError
from unseen.runs.files import read_regular, whole
from unseen.runs.schema import LARGEST_JSON, json_fault

NAME = "origin.json"
KEY_BYTES = 32


def new_origin(config: Mapping[str, Any]) -> dict[str, str] | None:
    """What ``origin.json`` holds of a run that this user makes in the current folder; None where no key can be kept."""
    folder, key = str(Path.cwd()), _key(make=True)
    return None if key is None else {"folder": folder, "mark": _mark(key, config, folder)}


def marked_home(path: Path, config: Mapping[str, Any]) -> Path | None:
    """The folder that ``origin.json`` of a run folder names, where its mark is this user's and of this configuration; else None."""
    origin, key = _said(path / NAME), _key(make=False)
    if key is None or origin is None or not hmac.compare_digest(origin["mark"].encode(), _mark(key, config, origin["folder"]).encode()):
        return None
    return Path(origin["folder"])


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
