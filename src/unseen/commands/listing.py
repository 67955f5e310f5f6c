"""What a list of ``curate`` prints."""

import json
import sys

from unseen.commands.table import print_rows, printable, say
from unseen.runs import Run

LISTED = {"suspects": "Probably wrong", "rare": "Rare but right", "easy": "Easy"}
LISTED_COLUMNS = ["id", "given_class", "suggested_class", "wrong_probability", "text", "support", "memorization"]
"""Columns of a list on the screen."""


def print_list(run: Run, name: str, top: int, form: str, missing: str | None) -> None:
    """A list of ``curate`` (form: table, json or csv), with its estimated error rate. missing: why there are no neighbours.

    What nobody can judge is said before the list; beside CSV on the error stream.
    """
    from unseen.curate import LISTS, error_rate, neutral_frame, ranked_by, trust_sentence, trustworthy

    found, known = LISTS[name](run), trustworthy(run)
    rate, lines = error_rate(run, name, found), known.lines if name == "suspects" or known.warning else []
    shown = found.head(top) if top else found
    if form == "csv":
        print(*(printable(line) for line in lines), sep="\n", end="\n" if lines else "", file=sys.stderr)
        print(neutral_frame(shown).write_csv(), end="")
    elif form == "json":
        facts = {"list": name, "examples": len(found), "error_rate": rate.rate, "error_rate_from": rate.method}
        facts |= {"warning": known.warning, "left_out": known.left_out if name == "suspects" else 0}
        print(json.dumps(facts | {"neighbours": missing is None, "rows": shown.to_dicts()}, indent=1))
    else:
        for line in lines:
            say(line)
        if len(shown):
            print_rows(shown.select(name for name in LISTED_COLUMNS if name in shown.columns).to_dicts(), title=LISTED[name])
        say(f"{LISTED[name]}: {len(found):,} examples. Estimated error rate of the list: {rate}.")
        if name == "suspects":
            for sentence in filter(None, (trust_sentence(run), ranked_by(run))):
                say(sentence)
        if missing:
            say(f"The nearest examples would make the list better, but they are missing: {missing}")
