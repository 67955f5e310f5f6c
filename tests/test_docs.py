"""Pages are executed, and one that does not work is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

import unseen
from run_readme import missing_lines, run_page

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

PAGE = """# A page

```python
value = 3
```

```bash
unseen score nowhere
```

```python
assert value == {value}
```

```sh
unseen {command} \\
  --top 1
```
"""


@pytest.fixture(autouse=True)
def stay_here(monkeypatch):
    monkeypatch.chdir(os.getcwd())  # a page is executed in a folder of its own


@pytest.mark.parametrize(
    ("value", "command", "error"), [(4, "show nowhere", AssertionError), (3, "show nowhere", SystemExit), (3, "shown", SystemExit)]
)
def test_a_page_that_fails_is_refused(tmp_path, value, command, error):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("{value}", str(value)).replace("{command}", command), encoding="utf-8")
    with pytest.raises(error) as raised:
        run_page(page)
    assert error is AssertionError or raised.value.code


def test_blocks_share_their_names_and_shown_ones_are_not_executed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("{value}", "3").partition("```sh")[0], encoding="utf-8")
    run_page(page)


def test_a_page_without_blocks_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("# Nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no block"):
        run_page(tmp_path / "page.md")


def test_the_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and [line for line in lines if len(line) > 120] == []


def test_output_that_a_page_shows_is_compared_without_its_numbers():
    printed = "loss  0.25   12\n───────\nrow/12  3\n"
    assert missing_lines("loss 0.3 9\n──\nrow/7      4\n", printed) == []
    assert missing_lines("loss 0.3 9\nmemorization 3\n", printed) == ["memorization 3"]


def test_the_version_is_the_same_wherever_a_person_reads_it():
    citation, changes = ((ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md"))
    assert f"\nversion: {unseen.__version__}\n" in citation and f"\n## [{unseen.__version__}] - " in changes


def test_frames_come_out_as_pandas_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(60), "b": [n % 5 for n in range(60)], "kind": ["cat", "dog"] * 30})
    run = unseen.score(frame, target="kind", hidden=(8,), epochs=1, members=4, out=tmp_path / "run")
    scores = run.scores.to_pandas()
    assert isinstance(scores, pandas.DataFrame) and list(scores["id"]) == run.scores["id"].to_list()
    assert np.allclose(scores["memorization"], run.scores["memorization"].to_numpy(), equal_nan=True)
