#!/usr/bin/env python3
"""Reads what criterion keeps in target/criterion: says which benches got slower, and keeps a run by a name.

    micro.py has FOLDER BASELINE            exit 0 if anything is kept by that name
    micro.py slower FOLDER SINCE NOISE      the benches measured since that moment (seconds) and slower by more than so many percent than what
                                            they were compared with, a line each: name, tab, how much slower
    micro.py new FOLDER SINCE BASELINE      the names of those that had nothing to be compared with
    micro.py keep FOLDER SINCE BASELINE     what was measured since then, by that name

Slower is what criterion calls so: the whole interval of confidence of the mean's change lies beyond the noise.
"""
import json
import shutil
import sys
from pathlib import Path


def measured(folder, since):
    """Folder and name of each bench that ran since then; those of benches that are no more stay for ever."""
    for described in sorted(folder.glob("**/new/benchmark.json")):
        if described.stat().st_mtime >= since:
            yield described.parents[1], json.loads(described.read_text(encoding="utf-8"))["full_id"]


def slower(folder, since, noise):
    for bench, name in measured(folder, since):
        change = bench / "change" / "estimates.json"
        # One of an earlier run says nothing of this one.
        if not change.exists() or change.stat().st_mtime < since:
            continue
        mean = json.loads(change.read_text(encoding="utf-8"))["mean"]
        if mean["confidence_interval"]["lower_bound"] * 100 > noise:
            yield name, mean["point_estimate"] * 100


def keep(folder, since, baseline):
    for bench, _ in measured(folder, since):
        shutil.rmtree(bench / baseline, ignore_errors=True)
        shutil.copytree(bench / "new", bench / baseline)


def main():
    match sys.argv[1:]:
        case ["has", folder, baseline]:
            sys.exit(0 if any(Path(folder).glob(f"**/{baseline}/estimates.json")) else 1)
        case ["slower", folder, since, noise]:
            for name, percent in slower(Path(folder), float(since), float(noise)):
                print(f"{name}\t{percent:+.1f} %")
        case ["new", folder, since, baseline]:
            for bench, name in measured(Path(folder), float(since)):
                if not (bench / baseline).exists():
                    print(name)
        case ["keep", folder, since, baseline]:
            keep(Path(folder), float(since), baseline)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
