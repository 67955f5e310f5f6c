"""What a newcomer does with the wheel alone: `try_wheel.py path/to/unseen` scores a folder of images, in an empty environment."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

COMMANDS = ("score photos --hidden 64 --epochs 5 --out run --report", "show run --top 3", "suspects run --top 3", "evaluate run")


def write_photos(folder: Path, count: int = 600) -> None:
    """Digits as PNG files in a folder for each class."""
    pixels, labels = load_digits(return_X_y=True)
    for number, (row, label) in enumerate(zip(pixels[:count], labels, strict=False)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((row.reshape(8, 8) * 15).astype("uint8")).save(folder / str(label) / f"{number}.png")


def main(unseen: str) -> None:
    """Run the commands; then one that needs an extra, which must be named."""
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder) / "photos")
        for command in COMMANDS:
            subprocess.run([unseen, *command.split()], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        assert (Path(folder) / "run" / "report.html").stat().st_size > 10_000
        for command in ("plot run", "score hf:owner/name"):
            done = subprocess.run([unseen, *command.split()], cwd=folder, capture_output=True, text=True)
            assert done.returncode == 2 and "pip install 'unseen[" in done.stderr, done.stderr
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
