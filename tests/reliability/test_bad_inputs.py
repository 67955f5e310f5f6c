import shlex

import pytest

from bad_inputs import BAD, prepare
from unseen.cli import COMMANDS, main

KEPT = (".lock", "neighbours.parquet")  # the nearest examples may be found before the refusal; that is kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    prepare(folder)
    return folder


def test_every_command_has_a_bad_input():
    assert set(BAD) | {"runs"} == set(COMMANDS)


@pytest.mark.parametrize("command", [command for commands in BAD.values() for command in commands])
def test_it_is_one_message_and_exit_2(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.name not in KEPT)
    assert main(shlex.split(command)) == 2
    said = capsys.readouterr().err
    assert said.startswith("unseen: ") and "Traceback" not in said
    assert sorted(path.relative_to(folder) for path in folder.rglob("*") if path.name not in KEPT) == before
