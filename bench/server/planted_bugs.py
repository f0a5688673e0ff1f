#!/usr/bin/env python3
"""Finds out whether the fault simulation notices bugs that were planted.

usage: planted_bugs.py FAULT_SIMULATION [SEEDS [NAME...]]

FAULT_SIMULATION is the program of a build with -DFEDWATT_PLANT_BUGS=ON. Each FEDWATT_PLANTED(name) of the sources, or each NAME, is woken alone; prints a table of how many seeds it
took, of at most SEEDS (20000), and what caught it. Exit 1 where one was not found.
"""
import pathlib
import re
import subprocess
import sys


def planted(root):
    names = {}
    for path in sorted(root.rglob("*.cc")):
        if "bench" in path.parts or "tests" in path.parts or "build" in path.parts:
            continue
        for name in re.findall(r"FEDWATT_PLANTED\((\w+)\)", path.read_text()):
            names.setdefault(name, str(path.relative_to(root)))
    return names


def main():
    program, seeds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "20000"
    names = planted(pathlib.Path(__file__).resolve().parents[2])
    chosen = sys.argv[3:] or list(names)
    missed = 0
    print("| bug | in | seeds | caught by |\n|---|---|---|---|")
    for name in chosen:
        run = subprocess.run([program, "bug", name, seeds], capture_output=True, text=True)
        line = run.stdout.strip().split("\t")
        if run.returncode != 0 or len(line) != 4:
            # A program that ends itself has been caught by its own check.
            line = [name, "-", "", (run.stderr.strip().splitlines() or run.stdout.strip().splitlines() or ["it ended"])[-1][:160]]
            missed += 1
        print(f"| `{name}` | `{names.get(name, '?')}` | {line[1]} | {line[3]} |", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
