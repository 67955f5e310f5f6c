"""The report: one HTML page of a run, and the small gallery that notebooks show.

Reads tables and pictures only; the page's own files are in ``assets``.
"""

from unseen.page.build import report
from unseen.page.notebook import gallery
