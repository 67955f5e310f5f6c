"""What a figure claims, as data: the words, the number, the threshold, and whether it holds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unseen.errors import UnseenError

BEGIN, END = "<!-- claims -->", "<!-- /claims -->"
FIELDS = ("figure", "claim", "number", "threshold", "verdict", "seeds", "scale")

HOLDS, FAILS, ONLY_PAPER = "holds", "fails", "paper scale only"


@dataclass(frozen=True)
class Claim:
    """One claim of one figure.

    Args:
        figure: name of the recipe.
        claim: in words, with what the number is.
        number: mean over the seeds;
        low: its range.
        high: see ``low``.
        threshold: what the number must reach;
        at_least: it must not be below it (else: not above).
        holds: in every seed.
        seeds: how many.
        scale: tiny, small or paper.
        verdict: holds; fails; or paper scale only, for one that fails here and that fewer images or epochs than the paper's cannot test.
        why: what is known of a claim that does not hold.
    """

    figure: str
    claim: str
    number: float
    low: float
    high: float
    threshold: float
    at_least: bool
    holds: bool
    seeds: int
    scale: str
    verdict: str = ""
    why: str = ""


def check(
    figure: str,
    scale: str,
    claim: str,
    numbers: Sequence[float],
    at_least: float | None = None,
    at_most: float | None = None,
    needs_paper_scale: bool = False,
    why: str = "",
) -> Claim:
    """Check a claim on the number of each seed. Exactly one of ``at_least`` and ``at_most`` is given. A NaN never holds.

    Args:
        figure: name of the recipe.
        scale: tiny, small or paper.
        claim: in words.
        numbers: of the seeds.
        at_least: what each must reach.
        at_most: what none may exceed.
        needs_paper_scale: whether a smaller scale than the paper's cannot refute it.
        why: said with a claim that does not hold.

    >>> check("fig2", "tiny", "the tail is long", [0.4, 0.6], at_least=0.5).holds
    False
    """
    threshold = at_least if at_least is not None else at_most
    assert threshold is not None and (at_least is None) != (at_most is None)
    holds = all(number >= threshold if at_least is not None else number <= threshold for number in numbers)
    mean = sum(numbers) / len(numbers)
    verdict = HOLDS if holds else ONLY_PAPER if needs_paper_scale and scale != "paper" else FAILS
    told = "" if holds else why
    return Claim(
        figure, claim, mean, min(numbers), max(numbers), threshold, at_least is not None, holds, len(numbers), scale, verdict, told
    )


def write_claims(path: Path, claims: Sequence[Claim]) -> None:
    """Write claims.json: a list with an object per claim."""
    path.write_text(json.dumps([asdict(claim) for claim in claims], indent=1) + "\n", encoding="utf-8")


def read_claims(folder: Path) -> list[Claim]:
    """All claims below a folder of results, in the order of the figures. Raises UnseenError for a file that is something else."""
    found = []
    for path in folder.glob("*/claims.json"):
        try:
            found += [Claim(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise UnseenError(f"{path} does not hold claims ({error}). Delete it; `unseen recipe` writes it again.") from error
    return sorted(found, key=lambda claim: (not claim.figure.startswith("fig"), len(claim.figure), claim.figure))


def markdown(claims: Iterable[Claim]) -> str:
    """A table with a row per claim."""
    lines = ["| figure | claim | measured | needed | verdict | seeds |", "|---|---|---|---|---|---|"]
    for claim in claims:
        spread = f" ({claim.low:.3g} to {claim.high:.3g})" if claim.seeds > 1 else ""
        sign, verdict = "≥" if claim.at_least else "≤", HOLDS if claim.holds else f"**{claim.verdict or FAILS}**"
        verdict += f": {claim.why}" if claim.why else ""
        lines.append(
            f"| {claim.figure} | {claim.claim} | {claim.number:.3g}{spread} | {sign} {claim.threshold:g} | {verdict} | {claim.seeds} |"
        )
    return "\n".join(lines) + "\n"


def with_table(page: str, claims: Sequence[Claim]) -> str:
    """A Markdown page with the table of claims between its markers, ``<!-- claims -->`` and ``<!-- /claims -->``."""
    before, found, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise UnseenError(f"The page has no place for the table: put {BEGIN} and {END} on lines of their own.")
    return f"{before}{BEGIN}\n{markdown(claims)}{END}{after}"
