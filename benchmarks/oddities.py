"""Copies and odd pictures planted among 1,000 of CIFAR-10: how many ``unseen`` finds, and CleanVision or FiftyOne where they are installed.

Called by photos.py. Planted: ten files copied as they are, ten copies that were brightened by a tenth and saved as JPEG of quality 60, five
pictures of noise and five digits of MNIST. A tool is judged by which of them it lists, and by what else it lists. Processor seconds.
"""

import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import unseen

COUNT, PLANTED = 1000, 10


def plant(folder: Path, data_dir: Path) -> dict[str, set[str]]:
    """Write the pictures in class folders; the names of those planted, by kind."""
    examples = unseen.load("cifar10", data_dir=data_dir, limit=COUNT).train
    pixels = examples.inputs.permute(0, 2, 3, 1).numpy()
    paths = [folder / examples.classes[int(label)] / f"{number:04}.png" for number, label in enumerate(examples.labels)]
    for path, picture in zip(paths, pixels, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    found: dict[str, set[str]] = {"exact": set(), "near": set(), "odd": set()}
    for path in paths[::97][:PLANTED]:
        found["exact"].add(shutil.copy(path, path.with_name(f"copy-{path.name}")).name)
    for path in paths[41::97][:PLANTED]:
        brighter = np.clip(np.asarray(Image.open(path)) * 1.1, 0, 255).astype(np.uint8)
        name = path.with_name(f"near-{path.stem}.jpg")
        Image.fromarray(brighter).save(name, quality=60)
        found["near"].add(name.name)
    digits, draw = unseen.load("mnist", data_dir=data_dir, limit=PLANTED).train.inputs.flatten(0, -3).numpy(), np.random.default_rng(0)
    for number in range(PLANTED):
        noise = draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        picture = Image.fromarray(noise) if number % 2 else Image.fromarray(digits[number]).convert("RGB").resize((32, 32))
        name = paths[number].with_name(f"odd-{number}.png")
        picture.save(name)
        found["odd"].add(name.name)
    return found


def counted(planted: dict[str, set[str]], listed: dict[str, list[str]], tool: str, seconds: float) -> dict[str, Any]:
    """A row: of the planted ones how many are listed, and how many others."""
    doubles, odd = set(listed["doubles"]), listed["odd"]
    copies = planted["exact"] | planted["near"]
    return {
        "tool": tool,
        "exact copies": len(doubles & planted["exact"]),
        "near copies": len(doubles & planted["near"]),
        "other pairs": len({name for name in doubles if name not in copies}),
        "odd": len(set(odd) & planted["odd"]),
        "odd of the first ten": len(set(odd[:PLANTED]) & planted["odd"]),
        "others called odd": len(set(odd) - planted["odd"]),
        "seconds": seconds,
    }


def ours(folder: Path, features: str) -> dict[str, list[str]]:
    run = unseen.score(str(folder), estimator="head", features=features, out=tempfile.mkdtemp())
    doubles, odd = unseen.duplicates(run), unseen.outliers(run)
    pairs = [*zip(doubles["id"], doubles["other_id"], strict=True)]
    names = [next((Path(one).name for one in pair if Path(one).name[:4] in ("copy", "near")), Path(pair[0]).name) for pair in pairs]
    return {"doubles": names, "odd": [Path(one).name for one in odd["id"]]}


def cleanvision(folder: Path) -> dict[str, list[str]]:
    """Each set of doubles but its first; odd: dark, light, blurry, grey, of little information, or of an odd size or shape."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues(n_jobs=1, verbose=False)
    doubles = []
    for kind in ("exact_duplicates", "near_duplicates"):
        for group in lab.info[kind]["sets"]:
            names = sorted((Path(one).name for one in group), key=lambda name: name[:4] in ("copy", "near"))
            doubles += names[1:]
    issues = lab.issues
    kinds = [name for name in issues.columns if name.startswith("is_") and "duplicates" not in name]
    scores = [name.removeprefix("is_").removesuffix("_issue") + "_score" for name in kinds]
    flagged = issues[issues[kinds].any(axis=1)]
    order = flagged[scores].min(axis=1).sort_values().index
    return {"doubles": doubles, "odd": [Path(one).name for one in order]}


def oddity_rows(data_dir: Path, kinds: list[str]) -> list[dict[str, Any]]:
    """A row for each tool that is installed; the others are named."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        planted = plant(folder, data_dir)
        tools = {f"unseen, {kind}": lambda where, kind=kind: ours(where, kind) for kind in kinds} | {"cleanvision": cleanvision}
        for name, tool in tools.items():
            if name == "cleanvision" and not find_spec("cleanvision"):
                rows.append({"tool": "cleanvision (not installed)"})
                continue
            start = time.process_time()
            listed = tool(folder)
            rows.append(counted(planted, listed, name, time.process_time() - start))
            print(rows[-1], flush=True)
    rows.append({"tool": "fiftyone (" + ("installed, and not asked" if find_spec("fiftyone") else "not installed") + ")"})
    return rows
