"""Figure 8: what easy and difficult images of CIFAR-10 look like, class by class.

As figure 7, with the run that figures 5 and 6 take their scores from. (The images at hand for the results committed here passed through
JPEG quality 75.) Cost: none beyond figure 5.
"""

from typing import TYPE_CHECKING

from unseen.recipes.claims import Claim
from unseen.recipes.fig5 import cifar_scores
from unseen.recipes.fig7 import gallery
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pieces(scale: str) -> list[Piece]:
    """The run that the gallery shows."""
    return [cifar_scores(scale)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """The gallery, and its claims."""
    return gallery(study, "fig8", study.run(cifar_scores(study.scale)))
