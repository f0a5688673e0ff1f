"""Reads the run records that run.sh made: what a mix of widths loses and saves against whole models, paired by seed; a table on stdout and table.json."""
import json
import pathlib
import statistics
import sys


def read(run):
    rounds = [json.loads(line) for line in open(run / "rounds.jsonl")]
    attempts = [json.loads(line) for line in open(run / "clients.jsonl")]
    scores = [line["eval_accuracy"] for line in rounds if line["eval_accuracy"] is not None]
    return {
        "last3": statistics.mean(scores[-3:]),
        "final": scores[-1],
        "cpu": sum(line["client_cpu_seconds"] for line in rounds),
        "joules": sum(line["client_energy_uj"] for line in rounds) / 1e6,
        "macs": sum(3 * a["fit"]["macs_per_example"] * a["train_examples"] for a in attempts if a["outcome"] == "accepted"),
        "up": sum(line["uplink_payload_bytes"] for line in rounds),
    }


def spread(values, form):
    return f"{form(statistics.mean(values))} ({form(min(values))} to {form(max(values))})"


out = pathlib.Path(sys.argv[1])
table = {}
for setting in sorted(p for p in out.iterdir() if p.is_dir()):
    fleets = {f.name: {int(s.name): read(s) for s in sorted(f.iterdir()) if (s / "summary.json").exists()} for f in sorted(setting.iterdir())}
    full = fleets.get("full", {})
    print(f"\n{setting.name}: the whole model's accuracy, mean of the last three evaluations; against 'full' of the same seed")
    for name, runs in fleets.items():
        seeds = sorted(set(runs) & set(full)) if full else sorted(runs)
        row = {"seeds": seeds, "accuracy": [runs[s]["last3"] for s in seeds], "final": [runs[s]["final"] for s in seeds]}
        line = f"  {name:18} {len(seeds)} seeds  accuracy {spread(row['accuracy'], lambda v: f'{v:.4f}')}"
        if full and name != "full":
            row["points"] = [100 * (runs[s]["last3"] - full[s]["last3"]) for s in seeds]
            line += f"  points {spread(row['points'], lambda v: f'{v:+.2f}')}"
            for key, label in (("cpu", "cpu"), ("joules", "virtual joules"), ("macs", "multiply-adds"), ("up", "bytes up")):
                row[key] = [full[s][key] / runs[s][key] for s in seeds]
                line += f"  {label} {statistics.mean(row[key]):.2f} times fewer"
        print(line)
        table.setdefault(setting.name, {})[name] = row
(out / "table.json").write_text(json.dumps(table, indent=1))
