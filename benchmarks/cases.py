"""Inputs that real users have: what was read of each before, and what is read now.

python benchmarks/cases.py CASES --before OTHER/src    (ten minutes of one core)

CASES holds a folder per case: ``data*`` is the input, ``case.py`` a case in Python. Each is read, scored (``unseen score DATA --hidden 64
--epochs 20 --estimator members``, texts by turnover), asked for its suspects and copied by ``apply`` with one example relabelled, in a
process of its own with at most 12 GiB of address space. With ``--before`` the version in OTHER does that, without it this one; the
other's answers stay as they are. Writes docs/results/cases.json and docs/results/cases.md.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "results" / "cases.json"
ADDRESSES = 12 * 2**30  # bytes of address space of one case
SHOWN = 6  # names of classes
SECONDS = 400  # of one case
CONTROLS = ("csv_plain", "text_plain", "img_modes", "csv_offset_control")
IMPORTED = (
    *(
        "unseen.cli",
        "unseen.curate",
        "unseen.apply",
        "unseen.scoring",
        "unseen.bridges",
        "torch.func",
        "polars",
        "lightning_fabric",
        "rich.table",
    ),
    *("scipy.stats", "scipy.sparse", "scipy.optimize", "sklearn.metrics", "sklearn.linear_model", "sklearn.neighbors", "safetensors.torch"),
    *(
        "rich.table",
        "unseen.page",
        "unseen.judge",
        "numpy.linalg",
        "torch._dynamo",
        "unseen.members",
        "unseen.scores",
        "unseen.tables",
        "unseen.data",
    ),
)
"""What the versions import on use, so that not every case has to."""
VARIANTS = {
    "text_plain": ((), ("--text", "review")),
    "text_stars": ((), ("--text", "review", "--target", "stars")),
    "img_corrupt_several": ((), ("--skip-damaged",)),
}
"""Flags with which a case is tried, where without any is not all."""
SHORT = ("--hidden", "64", "--epochs", "20", "--estimator", "members")


# -- one case, in a process of its own, by the version that is on its path


def worker(case: Path, flags: list[str], folder: Path) -> dict[str, Any]:
    """What one version makes of a case: every answer, or the message that refuses it."""
    os.chdir(folder)
    if (case / "case.py").exists():
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                runpy.run_path(str(case / "case.py"))
                ended = ""
            except Exception as stop:  # whatever it is, it is the answer
                ended = f"{type(stop).__name__}: {str(stop).splitlines()[0]}"
        warned = [line.partition("Warning: ")[2] for line in error.getvalue().splitlines() if "Warning: " in line]
        return {"printed": out.getvalue().strip(), "warned": list(dict.fromkeys(warned)), "ended": ended}
    source = source_of(case)
    short = (*SHORT[:-1], "turnover") if "--text" in flags else SHORT  # many networks of texts take long
    scored = command("score", source, *short, *flags, "--out", folder / "run")
    facts: dict[str, Any] = {"score": scored if scored["status"] else {"status": 0}}
    facts["read"] = read(source, flags)
    if not facts["score"]["status"]:
        facts["lists"] = lists(folder / "run")
    if "classes" in facts["read"]:
        facts["apply"] = copy(source, folder, facts["read"]["classes"], flags)
        facts["read"]["classes"] = shown(facts["read"]["classes"])
    return facts


def shown(names: list[str]) -> list[str]:
    """The first six, and how many more."""
    more = len(names) - SHOWN
    return [*map(repr, names[:SHOWN]), *([f"{more:,} more"] if more > 0 else [])]


def source_of(case: Path) -> Path:
    """The input of a case: its table, its folder, the table in it that names pictures, or the case itself."""
    for place in ("data.csv", "DATA.CSV", "data/labels.csv", "data"):
        if (case / place).exists():
            return case / place
    return case


def command(*words: object) -> dict[str, Any]:
    """Run a command: its status, and its last line, or what it refuses."""
    from unseen.cli import main

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException as stop:  # a bare error of another library is what this table is about
            return {"status": 1, "said": f"traceback: {type(stop).__name__}: {(str(stop).splitlines() or [''])[0]}"}
    return {"status": status, "said": (error.getvalue() if status else out.getvalue()).strip()}


def read(source: Path, flags: list[str]) -> dict[str, Any]:
    """What ``load`` gives: examples by split, classes, shape, how many inputs differ, and what it says."""
    import torch

    import unseen

    try:
        examples = unseen.load(source, **options_of(flags))
        x, _, _ = examples.batch(torch.arange(len(examples)))
    except BaseException as stop:
        return {"refused": f"{type(stop).__name__}: {(str(stop).splitlines() or [''])[0]}"}
    flat = x.double().flatten(1)
    return {
        "splits": {split: examples.split.count(split) for split in dict.fromkeys(examples.split)},
        "classes": list(examples.classes),
        "shape": list(examples.shape),
        "different": len(flat.unique(dim=0)),
        "ids": examples.ids[:1],
        "says": examples.reading.lines() if hasattr(examples, "reading") else [],
    }


def options_of(flags: list[str]) -> dict[str, Any]:
    """Flags as keywords of ``load``."""
    if "--skip-damaged" in flags:
        return {"skip_damaged": True}
    return {name.removeprefix("--"): value for name, value in zip(flags[::2], flags[1::2], strict=True)}


def lists(run: Path) -> dict[str, Any]:
    """Accuracy of both sides, labels that are flagged, those of them whose prediction agrees, and the list of suspects."""
    import polars as pl

    scores = pl.read_parquet(run / "scores.parquet")
    flagged = scores.filter("is_label_issue")
    said = command("suspects", run, "--top", "0", "--json")
    found = json.loads(said["said"]) if not said["status"] else {}
    summary = json.loads((run / "summary.json").read_text()) if (run / "summary.json").exists() else {}
    return {
        "trained": int(scores["trained"].sum()),
        "flagged": len(flagged),
        "agreeing": flagged.filter(pl.col("predicted_label") == pl.col("given_label")).height,
        "suspects": len(found.get("rows", [])),
        "rate": found.get("error_rate"),
        "warning": found.get("warning"),
        "unseen_accuracy": summary.get("accuracy_unseen"),
    }


def copy(source: Path, folder: Path, classes: list[str], flags: list[str]) -> dict[str, Any]:
    """Relabel the first example by ``apply``: how many files or rows the source and the copy have, and labels that the source has not."""
    import polars as pl

    import unseen

    options = options_of(flags)
    examples = unseen.load(source, **options)
    label = classes[(int(examples.labels[0]) + 1) % len(classes)]
    pl.DataFrame({"id": [examples.ids[0]], "decision": ["relabel"], "label": [label]}).write_csv(folder / "decisions.csv")
    clean = folder / ("clean" + ("" if source.is_dir() else source.suffix.lower()))
    target = ("--target", options["target"]) if "target" in options else ()
    said = command("apply", folder / "decisions.csv", source, clean, *target)
    return {"status": said["status"], "said": said["said"].replace(str(clean), "").strip(), "found": count(source), "copied": count(clean)}


def count(place: Path) -> int:
    """Files of a folder, or lines of a table."""
    if place.is_dir():
        return sum(file.is_file() for file in place.rglob("*"))
    return len(place.read_bytes().splitlines()) if place.exists() else 0


# -- all cases


def answers(cases: Path, source: Path, only: list[str]) -> dict[str, Any]:
    """What a version makes of every case, or of some: a process that has it imported makes a copy of itself for each."""
    chosen = sorted(place for place in cases.iterdir() if place.is_dir() and (not only or place.name in only))
    jobs = [(str(case), list(flags)) for case in chosen for flags in VARIANTS.get(case.name, ((),))]
    words = [sys.executable, __file__, "--serve", json.dumps(jobs)]
    found = {}
    with subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(source)}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                name, answer = json.loads(line.replace(str(cases), "CASES")).popitem()
                found[name] = answer
                print(name, sentence(answer)[:150], flush=True)
    return found


def serve(jobs: list[tuple[str, list[str]]]) -> None:
    """Answer each case in a child, which has what is imported and nothing of the cases before it. Prints a line of JSON each."""
    import polars  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch  # noqa: F401

    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            import_module(name)
    from PIL import Image

    Image.init()
    for case, flags in jobs:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({" ".join((Path(case).name, *flags)): one(Path(case), flags, Path(folder))}), flush=True)


def one(case: Path, flags: list[str], folder: Path) -> dict[str, Any]:
    """One case in a child of this process."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        (folder / "answer.json").write_text(json.dumps(worker(case, flags, folder)))
        os._exit(0)
    for _ in range(10 * SECONDS):
        if os.waitpid(child, os.WNOHANG)[0]:
            answer = folder / "answer.json"
            text = answer.read_text() if answer.exists() else json.dumps({"ended": "the process ended without an answer"})
            plain: dict[str, Any] = json.loads(text.replace(str(folder), "TMP"))
            return plain
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"ended": f"not done after {SECONDS} s"}


def sentence(facts: dict[str, Any]) -> str:
    """An answer in words."""
    if "score" not in facts:
        return "; ".join(part for part in (*facts.get("printed", "").splitlines(), *facts.get("warned", ()), facts["ended"]) if part)
    refused = f"Refused: {facts['score']['said']}" if facts["score"]["status"] else ""
    parts = [refused or _read(facts["read"])]
    if found := facts.get("lists"):
        rate = "unknown" if found["rate"] is None else f"{found['rate']:.0%}"
        parts.append(
            f"{found['trained']} trained, {found['flagged']} flagged, {found['agreeing']} of them predicted as given, "
            f"{found['suspects']} suspects{f', error rate {rate}' if found['suspects'] or found['rate'] is None else ''}; "
            f"unseen accuracy {found['unseen_accuracy']:.2f}."
        )
    if (made := facts.get("apply")) and not refused:
        done = (
            f"{made['copied']} of {made['found']} files or lines in the copy"
            if not made["status"]
            else f"refused: {made['said'].rstrip('.')}"
        )
        parts.append(f"`apply`: {done}.")
    parts += [f"Says: {line}" for line in facts["read"].get("says", [])[1:]]
    return " ".join(parts)


def _read(found: dict[str, Any]) -> str:
    if "refused" in found:
        return f"Read: {found['refused']}."
    splits = ", ".join(f"{name} {number}" for name, number in found["splits"].items())
    return f"{splits}; classes {', '.join(found['classes'])}; inputs {'x'.join(map(str, found['shape']))}, {found['different']} different."


def page(results: dict[str, Any], told: dict[str, str]) -> str:
    """The table in markdown."""
    rows = ["| case | what it is | before | now |", "|---|---|---|---|"]
    for name, after in results["now"].items():
        before = results["before"].get(name)
        case = name.split()[0]
        control = " (control)" if case in CONTROLS else ""
        cells = (f"`{name}`{control}", told.get(case, ""), sentence(before) if before else "not run", sentence(after))
        rows.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").replace("<", "&lt;").split()) for cell in cells) + " |")
    return "\n".join([*(__doc__ or "").splitlines()[:1], "", *rows, ""])


def main() -> None:
    """Run both versions, or this one, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="?")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of cases; the others stay as they are")
    parser.add_argument("--serve")
    given = parser.parse_args()
    if given.serve:
        serve(json.loads(given.serve))
        return
    version, source = ("before", given.before) if given.before else ("now", ROOT / "src")
    found = answers(given.cases, source, given.only)
    results = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {"before": {}, "now": {}}
    kept = {name: answer for name, answer in results[version].items() if given.only and name.split()[0] not in given.only}
    results[version] = dict(sorted((kept | found).items()))
    OUT.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = (given.cases / "CASES.tsv").read_text(encoding="utf-8").splitlines()
    told = {name: what for name, _, what in (line.partition("\t") for line in lines)}
    OUT.with_suffix(".md").write_text(page(results, told), encoding="utf-8")


if __name__ == "__main__":
    main()
