"""Options: one name each, in parts; flat where people write them."""

import inspect
import subprocess
import sys
from dataclasses import asdict, fields
from typing import get_type_hints

import pytest

import unseen
from unseen.cli import main
from unseen.config import HINTS, OPTIONS, PARTS, RULES, Config
from unseen.scoring.options import Options


def test_no_two_parts_share_a_name():
    names = [field.name for part in PARTS for field in fields(getattr(Config(), part))]
    assert len(names) == len(set(names)) and set(names) | {"estimator", "seed", "seeds"} == set(OPTIONS)
    assert set(RULES) <= set(OPTIONS)


def test_flat_and_back():
    config = Config.of(epochs=3, hidden=(64,), groups=8, data="mnist", members=4)
    assert Config.of(**config.flat()) == config and set(config.flat()) == set(OPTIONS)
    assert config.change(epochs=5).training == config.training.__class__(**asdict(config.training) | {"epochs": 5})


def test_the_typed_keywords_are_the_options():
    assert get_type_hints(Options) == {name: HINTS[name] for name in OPTIONS if name not in ("data", "model")}
    shown = inspect.signature(unseen.score).parameters
    assert set(OPTIONS) <= set(shown) and shown["epochs"].default == 20 and shown["lr"].annotation == float | None


@pytest.mark.parametrize(("wrong", "right"), [("epoch", "epochs"), ("random_label", "random_labels"), ("learning_rate", None)])
def test_a_misspelt_option_gets_the_nearest(wrong, right):
    with pytest.raises(unseen.UnseenError, match=f"Did you mean '{right}'" if right else "The options are estimator, seed"):
        unseen.score("digits", **{wrong: 1})


def test_type_checkers_see_the_keywords(tmp_path):
    script = tmp_path / "user.py"
    script.write_text(
        'import unseen\nunseen.score("digits", epochs=3)\nunseen.score("digits", epochs="three")\nunseen.score("digits", epoch=3)\n'
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--ignore-missing-imports",
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path),
        str(script),
    ]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    assert "user.py:2" not in said and "user.py:3" in said and "user.py:4" in said, said


def test_the_help_is_in_groups_and_audit_shows_what_it_uses(capsys):
    helps = {}
    for command in ("score", "audit"):
        assert main([command, "--help"]) == 0
        helps[command] = capsys.readouterr().out
    for group in ("Data", "Network", "Training", "Masks", "Noise", "Output"):
        assert f"\n{group}: " in helps["score"]
    assert "--groups" in helps["audit"] and "--hidden" in helps["audit"]
    for flag in ("--epochs", "--random-labels", "--members", "--history-every", "--force"):
        assert flag in helps["score"] and flag not in helps["audit"]
