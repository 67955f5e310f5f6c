"""A run in a notebook: its most memorized and its most doubtful examples, as pictures where the data can be loaded."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from unseen.errors import UnseenError
from unseen.page.loading import load_examples
from unseen.page.thumbnails import is_images, pictures
from unseen.runs import Run

SHOWN = 12
HEIGHT = 900  # pixels of the page in a notebook


class Page(type(Path())):  # type: ignore[misc]  # a path of this system, whichever it is
    """The path of a report, which can show itself."""

    def show(self, height: int = HEIGHT) -> None:
        """Show the page: in a notebook below the cell, whole and without a server; else in the browser.

        Args:
            height: pixels, in a notebook.
        """
        if (display := _display()) is None:
            import webbrowser

            webbrowser.open(self.resolve().as_uri())
            return
        frame = f'<iframe srcdoc="{escape(self.read_text(encoding="utf-8"))}" style="width:100%;height:{height}px;border:0"></iframe>'
        display({"text/html": frame, "text/plain": str(self)}, raw=True)


def _display() -> Any:
    """What shows HTML in the notebook that this runs in; None where it runs in none."""
    import sys

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

    return display


def gallery(run: Run) -> str:
    """HTML of a few lines: the run, its accuracies, the most memorized examples. Never raises: a notebook would show nothing."""
    try:
        return _gallery(run)
    except UnseenError as error:
        return f"<p><code>{escape(str(run.path))}</code>: {escape(str(error))}</p>"


def _gallery(run: Run) -> str:
    facts, scores = run.summary, run.scores.filter("trained")
    if "memorization" not in scores.columns:
        return f"<p><code>{escape(str(run.path))}</code></p>" + str(scores.head(SHOWN)._repr_html_())
    most = scores.sort("memorization", "index", descending=[True, False]).head(SHOWN)
    examples, note = load_examples(run)
    head = (
        f"<p><code>{escape(str(run.path))}</code>: {facts['trained']:,} examples, accuracy {facts['accuracy_seen']:.1%} seen, "
        f"{facts['accuracy_unseen']:.1%} unseen. The most memorized (label, seen, unseen prediction):</p>"
    )
    if examples is None or not is_images(examples):
        columns = [name for name in ("id", "given_label", "memorization", "predicted_seen", "predicted_unseen") if name in most.columns]
        return head + str(most.select(columns)._repr_html_()) + (f"<p>{escape(note)}</p>" if note else "")
    positions = {value: position for position, value in enumerate(examples.index.tolist())}
    images = pictures(examples, [positions[value] for value in most["index"].to_list()])
    names = run.classes
    figures = "".join(_figure(image, row, names) for image, row in zip(images, most.to_dicts(), strict=True))
    return head + f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>'


def _figure(image: Any, row: dict[str, Any], names: Sequence[str]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    told = ", ".join(names[row[name]] for name in ("given_label", "predicted_seen", "predicted_unseen"))
    name = escape(row["id"])
    style = "width:88px;height:88px;object-fit:contain;image-rendering:pixelated"
    return (
        f'<figure style="margin:0;width:88px;font:11px sans-serif"><img src="{source}" alt="{name}" title="{name}" style="{style}">'
        f"<figcaption>{row['memorization']:.2f}<br>({escape(told)})</figcaption></figure>"
    )
