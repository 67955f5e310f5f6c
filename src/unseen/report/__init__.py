"""One self-contained HTML file that shows a run: no server, no network, opens from ``file://``.

``report`` reads tables only; pictures, texts or rows of the examples are added where their data can be loaded.
"""

from unseen.report.gallery import gallery
from unseen.report.page import report

__all__ = ["gallery", "report"]
