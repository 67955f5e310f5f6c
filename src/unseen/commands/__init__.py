"""The commands of the command line, and what they print. Each is a dataclass whose fields are its flags, and whose call does it.

A command calls one function of the rooms below and prints; it computes nothing.
"""

from typing import Any

from unseen.commands import clean, data, judge, language, oddities, privacy, report, score, study
from unseen.commands.help import command_help, nearest_command, overview
from unseen.commands.table import printable

SHARED = (score.Score, judge.Truth, judge.Influence, clean.Selfcheck)  # by all of torchrun's processes; any other by the first alone
COMMANDS: dict[str, Any] = {
    "score": score.Score,
    "data": data.Data,
    "show": score.Show,
    "plot": score.Plot,
    "report": report.Report,
    "suspects": clean.Suspects,
    "rare": clean.Rare,
    "easy": clean.Easy,
    "duplicates": oddities.Duplicates,
    "leaks": oddities.Leaks,
    "outliers": oddities.Outliers,
    "selfcheck": clean.Selfcheck,
    "prune": clean.Prune,
    "apply": clean.Apply,
    "export": clean.Export,
    "audit": score.Audit,
    "truth": judge.Truth,
    "influence": judge.Influence,
    "language": language.Language,
    "evaluate": judge.Evaluate,
    "privacy": privacy.Privacy,
    "risky": privacy.Risky,
    "dynamics": study.Dynamics,
    "gradients": study.Gradients,
    "recipe": study.Recipe,
    "runs": score.Runs,
    "download": score.Download,
}
