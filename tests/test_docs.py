"""Pages are executed, and one that does not work is refused."""

import os

import pytest

from run_readme import run_page

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
