"""One line a fleet over the seeds in OUT/NAME/SEED: mean (least to most)."""
import json
import pathlib
import statistics
import sys


def read(run):
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    attempts = [json.loads(line) for line in (run / "clients.jsonl").read_text().splitlines()]
    accuracies = [r["eval_accuracy"] for r in rounds if r["eval_accuracy"] is not None]
    return {
        "accuracy": statistics.mean(accuracies[-3:]),
        "virtual seconds": sum(r["virtual_seconds"] for r in rounds),
        "joules": sum((r["client_energy_uj"] or 0) + (r["client_energy_wasted_uj"] or 0) for r in rounds) / 1e6,
        "late": sum(a["outcome"] == "late" for a in attempts),
        "accepted": sum(a["outcome"] == "accepted" for a in attempts),
        "mean width": statistics.mean(a["fit"]["width_fraction"] for a in attempts),
        "abandoned": sum(r["outcome"] != "committed" for r in rounds),
    }


for fleet in ("patient", "strict", "budget"):
    runs = [read(run) for run in sorted((pathlib.Path(sys.argv[1]) / fleet).iterdir())]
    cells = []
    for key in runs[0]:
        values = [run[key] for run in runs]
        cells.append(f"{key} {statistics.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})")
    print(f"{fleet:8} {len(runs)} seeds  " + "  ".join(cells))
