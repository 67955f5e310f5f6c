"""The page of a run."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from unseen.commands.following import after_page
from unseen.runs import open_run


@dataclass(frozen=True)
class Report:
    """Write one HTML page that shows a run: what it found, how far to trust it, and every list, with keys to keep, drop and relabel."""

    run: Positional[Path]
    """a run folder"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""
    out: Path | None = None
    """the file; default: report.html in the run folder"""
    points: int = 100_000
    """most examples on the page: of a larger run it has every extreme and a sample of the rest"""
    pictures: int = 4000
    """most thumbnails on the page"""

    def __call__(self) -> str:
        """Write the page and print where it is."""
        from unseen.page import report

        run = open_run(self.run, self.trust_paths)
        page = report(run, self.data_dir, self.out, points=self.points, pictures=self.pictures)
        print(f"{page}\nOpen it in a browser, and decide: k keeps an example, d drops it, r relabels it.")
        return after_page(run)
