"""Whether anybody can judge the labels: which classes are known to those that never saw an example, and whether there is a list at all."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

LEAST = 5  # trained examples of a class: with fewer, nearly all of its right labels are accused (LOG.md)
SLIGHT = 0.2  # Cohen's kappa up to which agreement is called slight (Landis & Koch 1977)
SURE = 1.645  # standard deviations: one-sided 95%
MOST = 0.5  # share that may be accused: where it is more, the judge is the likelier to be wrong
NAMED = 3  # classes that a line names


@dataclass(frozen=True)
class Judgeable:
    """What a list of suspects may say.

    Attributes:
        warning: why there is no list; None where there is one.
        left_out: trained examples of classes that nobody can judge, which are on no list of suspects.
        few: names of the classes with fewer than ``LEAST`` trained examples.
        unknown: names of other classes of which more than half would be accused.
    """

    warning: str | None
    left_out: int
    few: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """In sentences: the warning first, then what is left out."""
        lines = [f"Warning: {self.warning}"] if self.warning else []
        if self.warning is None and self.left_out:
            why = [f"fewer than {LEAST} trained examples ({_listed(self.few)})"] if self.few else []
            why += [f"more than half of them accused ({_listed(self.unknown)})"] if self.unknown else []
            count = len(self.few) + len(self.unknown)
            lines.append(
                f"Left out: {self.left_out:,} examples of {count:,} {'class' if count == 1 else 'classes'} that nobody could judge: "
                f"{'; '.join(why)}."
            )
        return lines


def judgeable(table: "pl.DataFrame") -> Judgeable:
    """Whether the labels of a run can be judged, and those of which classes.

    A class is left out where it has fewer than ``LEAST`` trained examples, or where more than half of them would be accused: then those
    that never saw an example do not know its class, and a right label looks as a wrong one does. There is no list where all classes are
    left out, where the predictions agree with the labels hardly better than by chance (Cohen's kappa at most ``SLIGHT``, or within the
    noise of so few examples), and where more than half of all labels would be accused.

    Args:
        table: a row per trained example, as ``judged`` gives it: given_label, given_class, suggested_label, wrong_probability.
    """
    import polars as pl

    accused = (pl.col("wrong_probability") > 0.5) & (pl.col("suggested_label") != pl.col("given_label"))
    table = table.select("given_label", "given_class", "suggested_label", accused=accused)
    classes = table.group_by("given_label", "given_class").agg(examples=pl.len(), accused=pl.col("accused").mean()).sort("given_label")
    few = classes.filter(pl.col("examples") < LEAST)
    unknown = classes.filter(pl.col("examples") >= LEAST, pl.col("accused") > MOST)
    enough = table.join(few, on="given_label", how="anti")
    return Judgeable(
        _warning(enough, len(few), none_left=len(few) + len(unknown) == len(classes)),
        sum(few["examples"]) + sum(unknown["examples"]),
        tuple(few["given_class"].to_list()),
        tuple(unknown["given_class"].to_list()),
    )


def _warning(table: "pl.DataFrame", few: int, none_left: bool) -> str | None:
    """Why there is no list. Args: table: without the classes that have too few examples, of which there are ``few``."""
    if not len(table):
        return f"Nobody can judge these labels: each of the {few:,} classes has fewer than {LEAST} trained examples."
    share = float(table["accused"].mean())  # type: ignore[arg-type]
    agreement, by_chance = _agreement(table)
    kappa = (agreement - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0
    noise = SURE * (by_chance * (1 - by_chance) / len(table)) ** 0.5
    if table["given_label"].n_unique() > 1 and (kappa <= SLIGHT or agreement <= by_chance + noise):
        return (
            f"Nobody can judge these labels: those that never saw an example name its label in {agreement:.1%} of {len(table):,}, and "
            f"{by_chance:.1%} would be chance. Train longer, with more examples, or with a network that fits these data."
        )
    if share > MOST or none_left:
        return (
            f"Nobody can judge these labels: {share:.0%} of {len(table):,} would be accused. Train longer, or with a network that fits "
            "these data; if most labels are wrong indeed, no list can tell which."
        )
    return None


def _agreement(table: "pl.DataFrame") -> tuple[float, float]:
    """How often the suggested is the given label; and how often it would be, were both drawn apart with the same frequencies."""
    shares = [table[name].value_counts(normalize=True, name="share").rename({name: "label"}) for name in ("given_label", "suggested_label")]
    both = shares[0].join(shares[1], on="label", suffix="_suggested")
    return float((table["given_label"] == table["suggested_label"]).mean()), float((both["share"] * both["share_suggested"]).sum())  # type: ignore[arg-type]


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
