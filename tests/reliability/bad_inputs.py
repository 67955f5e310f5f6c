"""Bad inputs of every command: the one list, given to the command line by a test and by the page of the documentation."""

import shutil
from pathlib import Path

BAD: dict[str, tuple[str, ...]] = {
    "score": (
        "score nowhere",
        "score digits --epochs 0",
        "score digits --hidden 1",
        "score digits --random-labels -1",
        "score digits --groups 7",
        "score digits --groups auto --hidden 31",
        "score digits --average 30 --epochs 20",
        "score digits --gradients-every 5",
        "score mnist --data-dir empty",
        "score empty",
        "score broken.csv",
        "score one-class.csv",
        "score missing.csv",
        "score pickled.npz",
        "score digits --train-on easy:0.2",
        "score digits --out other-files",
        "score digits --epochs 3 --out run",
    ),
    "data": ("data nowhere", "data empty", "data one-class.csv", "data missing.csv --drop z", "data missing.csv --separator ::"),
    "show": ("show nowhere", "show run --sort memorisation", "show truncated", "show foreign"),
    "plot": ("plot run --out figure.txt", "plot truncated"),
    "report": ("report unfinished", "report run --points 1", "report plain"),
    "suspects": ("suspects nowhere --json --csv", "suspects run --top -1", "suspects plain"),
    "rare": ("rare nowhere",),
    "easy": ("easy truncated",),
    "selfcheck": ("selfcheck digits --share 0.9", "selfcheck digits --random-labels 5", "selfcheck digits --limit 20"),
    "prune": ("prune run --keep 2", "prune run --keep-hard --random"),
    "apply": ("apply nowhere.csv empty cleaned", "apply decisions.csv broken.csv cleaned.csv", "apply escape.csv run cleaned.csv"),
    "export": ("export run --out no/where.csv", "export foreign"),
    "audit": ("audit digits --only nothing", "audit nowhere"),
    "truth": ("truth run --members 1", "truth run --leave-one-out first", "truth nowhere"),
    "influence": ("influence run --queries tset", "influence run --top 0", "influence foreign-weights"),
    "language": ("language nowhere.txt", "language broken.csv --out table.csv"),
    "evaluate": ("evaluate nowhere", "evaluate nowhere --scores thesis.tex", "evaluate foreign-config"),
    "privacy": (
        "privacy nowhere",
        "privacy run --members 3",
        "privacy run --held-out-targets 1",
        "privacy run --members 5 --held-out-targets 0",
        "privacy run --fraction 0.99",
        "privacy run --target thesis.tex",
        "privacy run --target classes.npy",
        "privacy run --target nan.npy",
    ),
    "duplicates": ("duplicates nowhere", "duplicates run --near 0.2", "duplicates run --top -1", "duplicates run --json --csv"),
    "leaks": ("leaks nowhere", "leaks run --near 1.5"),
    "outliers": ("outliers nowhere", "outliers run --top -1"),
    "risky": ("risky run", "risky nowhere --json --csv", "risky run --top -1"),
    "dynamics": ("dynamics run --subset purple", "dynamics run --subset wrong"),
    "gradients": ("gradients run --subset class:77",),
    "recipe": ("recipe fig1", "recipe fig8 --scale tiny --minutes 0", "recipe fig8 --scale tiny --minutes 1 --jobs -1"),
    "download": ("download imagenet",),
}
"""Commands that are refused before anything is trained, by command. ``unseen runs`` refuses nothing but a broken run below its folder."""


def prepare(folder: Path) -> None:
    """What the commands are given, in a folder: runs, finished and broken, and tables."""
    import numpy as np

    from unseen.cli import main

    small = ["--limit", "60", "--hidden", "32", "--epochs", "2", "--estimator"]
    if main(["score", "digits", *small, "turnover", "--out", str(folder / "run")]) or main(
        ["score", "digits", *small, "plain", "--out", str(folder / "plain")]
    ):
        raise RuntimeError("the runs of the bad inputs could not be made")
    for name in ("truncated", "foreign", "foreign-config", "foreign-weights", "unfinished"):
        shutil.copytree(folder / "run", folder / name)
    whole = (folder / "run" / "scores.parquet").read_bytes()
    (folder / "truncated" / "scores.parquet").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folder / "run" / "history.parquet", folder / "foreign" / "scores.parquet")
    (folder / "foreign-config" / "config.json").write_text('{"hidden_size": 768}', encoding="utf-8")
    (folder / "foreign-weights" / "weights" / "seed-0.safetensors").write_bytes(b"not tensors")
    (folder / "unfinished" / "summary.json").unlink()
    for name in ("empty", "other-files"):
        (folder / name).mkdir()
    (folder / "other-files" / "thesis.tex").write_text("precious", encoding="utf-8")
    (folder / "broken.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (folder / "one-class.csv").write_text("x,label\n1,a\n2,a\n", encoding="utf-8")
    (folder / "missing.csv").write_text("x,label\n1,a\n,b\n", encoding="utf-8")
    (folder / "decisions.csv").write_text("id,decision,label\nrow/0,delete,\n", encoding="utf-8")
    (folder / "escape.csv").write_text("id,decision,label\n../../etc/passwd,drop,\n", encoding="utf-8")
    np.save(folder / "classes.npy", np.zeros((60, 3)))
    np.save(folder / "nan.npy", np.full((60, 10), np.nan))
    np.savez(folder / "pickled.npz", x=np.array([{}, {}], dtype=object), y=np.arange(2))
