"""The command: everything of the campaign on one database or both, told as it goes, and in one line at the end.

python -m campaign [--database both] [--quick] [--only kills,zombies] [--kills N] ...      from the folder `tests`
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path

from campaign.play import SECTIONS, campaign
from campaign.sizes import FULL, QUICK, Sizes

DATABASES = ("sqlite", "postgres")


def main() -> int:
    """Run the command; the answer is the process's exit code."""
    options = _options()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    chosen = {field.name: getattr(options, field.name) for field in fields(Sizes)}
    sizes = replace(QUICK if options.quick else FULL, **{n: v for n, v in chosen.items() if v is not None})
    databases = DATABASES if options.database == "both" else (options.database,)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="cloacina-campaign-"))
    print(f"seed {seed}; what there is to complain of is kept in {folder}", flush=True)
    lines: dict[str, str] = {}
    clean = True
    for database in databases:
        (folder / database).mkdir(parents=True, exist_ok=True)
        tally = campaign(database, folder / database, sizes, seed, options.only or tuple(SECTIONS))
        lines[database], clean = tally.line(), clean and tally.clean
    for database, line in lines.items():
        print(f"{database}: {line}")
    if clean and options.folder is None:
        shutil.rmtree(folder)
    return 0 if clean else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="campaign", description="Kill real processes, and count what came of it."
    )
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="as continuous integration does")
    parser.add_argument("--only", type=_sections, help=f"some of {','.join(SECTIONS)}")
    parser.add_argument(
        "--seed", type=int, help="of all that is drawn by lot; the moments of the machine are its own"
    )
    parser.add_argument(
        "--folder", help="where databases, ledgers and logs are; kept if there is a complaint"
    )
    for field in fields(Sizes):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, metavar="N", dest=field.name)
    return parser.parse_args()


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = set(names) - set(SECTIONS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
