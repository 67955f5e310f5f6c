"""What every reader returns, before anything is checked, decoded or standardised; and what a user may say of columns."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unseen.data.images import Pictures
from unseen.data.reading import Reading

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Raw:
    """A data set as its source gives it: N examples.

    Args:
        name: of the set.
        inputs: a tensor in the layout of ``images.channels_first``, or pictures.
        labels: N integers or texts.
        test: bool (N,), or None where the source has no test split.
        ids: N texts, or None for row numbers, where train stands before test.
        index: N integers given by the user, or None for positions.
        classes: names in order where the source declares them; integer labels then count into them.
        columns: names of the features, for error messages.
        texts: N texts, where these are the inputs; ``inputs`` then are their ``bags``.
        target: the name of the column of labels, for error messages.
        reading: what was read so far, and what was not.
    """

    name: str
    inputs: Tensor | Pictures
    labels: Any
    test: Tensor | None = None
    ids: list[str] | None = None
    index: Any = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    texts: list[str] | None = None
    target: str | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Table:
    """A data frame that was read already. metadata: what the hub wrote into its file, JSON."""

    name: str
    frame: "pl.DataFrame"
    metadata: str = "{}"


@dataclass(frozen=True)
class Columns:
    """The user's words on columns and on the format of a table; None leaves the choice to the reader.

    Args:
        target: names of columns.
        image: see ``target``.
        id: see ``target``.
        text: see ``target``.
        split: see ``target``.
        drop: names of columns that are left out.
        separator: of a CSV.
        encoding: see ``separator``.
        whole: the data are the whole set. Of a piece of it, columns are not judged by their values.
    """

    target: str | None = None
    image: str | None = None
    id: str | None = None
    text: str | None = None
    split: str | None = None
    drop: tuple[str, ...] = ()
    separator: str | None = None
    encoding: str | None = None
    whole: bool = True
