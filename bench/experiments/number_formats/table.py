"""Reads the run records that run.sh made: accuracy of each fleet's float32 and int8 model, and the points lost against float32 training of the same seed; a table on stdout and table.json."""
import json
import pathlib
import statistics
import sys


def read(run):
    summary = json.load(open(run / "summary.json"))
    rounds = [json.loads(line) for line in open(run / "rounds.jsonl")]
    attempts = [json.loads(line) for line in open(run / "clients.jsonl")]
    return {
        "float32": summary["final_accuracy"],
        "int8": summary["int8_accuracy"],
        "cpu": sum(line["client_cpu_seconds"] for line in rounds),
        "formats": sorted({a["fit"]["number_format"] for a in attempts if a["outcome"] == "accepted"}),
    }


def spread(values, form):
    return f"{form(statistics.mean(values))} ({form(min(values))} to {form(max(values))})"


out = pathlib.Path(sys.argv[1])
fleets = {f.name: {int(s.name): read(s) for s in sorted(f.iterdir()) if (s / "summary.json").exists()} for f in sorted(out.iterdir()) if f.is_dir()}
base = fleets["float32"]
table = {}
for name, runs in fleets.items():
    seeds = sorted(set(runs) & set(base))
    row = {
        "seeds": seeds,
        "formats": sorted({f for s in seeds for f in runs[s]["formats"]}),
        "accuracy": [runs[s]["float32"] for s in seeds],
        "int8": [runs[s]["int8"] for s in seeds],
        "points": [100 * (runs[s]["float32"] - base[s]["float32"]) for s in seeds],
        "int8_points_own": [100 * (runs[s]["int8"] - runs[s]["float32"]) for s in seeds],
        "int8_points": [100 * (runs[s]["int8"] - base[s]["float32"]) for s in seeds],
        "cpu": [base[s]["cpu"] / runs[s]["cpu"] for s in seeds],
    }
    table[name] = row
    point, four = (lambda v: f"{v:+.2f}"), (lambda v: f"{v:.4f}")
    print(f"{name:10} {len(seeds)} seeds, trained in {' and '.join(row['formats'])}: final.pt {spread(row['accuracy'], four)}, points against float32 {spread(row['points'], point)}; "
          f"final-int8.pt {spread(row['int8'], four)}, against its own final.pt {spread(row['int8_points_own'], point)}, against float32's {spread(row['int8_points'], point)}; "
          f"client cpu {spread(row['cpu'], lambda v: f'{v:.2f}')} times fewer")
(out / "table.json").write_text(json.dumps(table, indent=1))
