"""What a plain run would have taken, by a clock that may be coarse."""

import pytest

import unseen
from unseen.training import cost


@pytest.mark.parametrize("estimator", ["turnover", "members"])
def test_a_clock_that_does_not_move_costs_no_run(tmp_path, monkeypatch, estimator):
    monkeypatch.setattr(cost, "clock", lambda device: 0.0)  # Windows' moves 64 times a second
    run = unseen.score("digits", limit=60, hidden=(16,), epochs=2, estimator=estimator, out=tmp_path / "run")
    assert run.finished and run.summary["plain_seconds"] > 0 and run.summary["cost"] >= 0
