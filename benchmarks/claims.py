"""Put the table of the paper's claims into a page, between its markers, from results that `unseen recipe` wrote.

python benchmarks/claims.py docs/results/small docs/claims.md
"""

import sys
from pathlib import Path

from unseen.recipes.claims import read_claims, with_table

if __name__ == "__main__":
    results, page = Path(sys.argv[1]), Path(sys.argv[2])
    page.write_text(with_table(page.read_text(encoding="utf-8"), read_claims(results)), encoding="utf-8")
