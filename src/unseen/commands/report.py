"""The page of a run."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from unseen.runs import open_run


@dataclass(frozen=True)
class Report:
    """Write one HTML file that shows a run: what it found, how far to trust it, every list, and keys to keep, drop and relabel."""

    run: Positional[Path]
    """a run folder"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data that a run made elsewhere names outside of its own folder, or on the hub"""
    out: Path | None = None
    """the file; default: report.html in the run folder"""
    points: int = 100_000
    """examples to hold at most: of more, every extreme and a sample of the rest"""
    pictures: int = 4000
    """thumbnails to hold at most"""

    def __call__(self) -> None:
        """Write the page and print where it is."""
        from unseen.page import report

        print(report(open_run(self.run, self.trust_paths), self.data_dir, self.out, points=self.points, pictures=self.pictures))
