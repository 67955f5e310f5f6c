"""How much of the campaign runs: a few of everything in CI, all of it by ``make soak``."""

import os

SOAK = bool(os.environ.get("UNSEEN_SOAK"))
"""The long version."""
KILLS = int(os.environ.get("UNSEEN_KILLS", "20" if SOAK else "4"))
"""Kills of each command, for each seed."""
SEEDS = tuple(range(int(os.environ.get("UNSEEN_KILL_SEEDS", "3" if SOAK else "1"))))
"""Of the moments of the kills."""
EXAMPLES = 2000 if SOAK else 40
"""Inputs that hypothesis tries on each loader; of the command line a tenth."""
