"""Reads the run records that run.sh made: what pruning the federation's model loses and saves against the dense one, paired by seed; a table on stdout and table.json."""
import json
import os
import pathlib
import statistics
import sys


def read(run, target):
    rounds = [json.loads(line) for line in open(run / "rounds.jsonl")]
    attempts = [json.loads(line) for line in open(run / "clients.jsonl")]
    macs = {}
    for attempt in attempts:
        if attempt["outcome"] == "accepted":
            macs[attempt["round"]] = macs.get(attempt["round"], 0) + 3 * attempt["fit"]["macs_per_example"] * attempt["train_examples"]
    scores = [line["eval_accuracy"] for line in rounds]
    # One evaluation is luck: the mean of three has to reach the target.
    reached = next((i for i in range(2, len(scores)) if statistics.mean(scores[i - 2:i + 1]) >= target), None)
    row = {"last3": statistics.mean(scores[-3:]), "parameters": rounds[-1]["model_parameters"], "rounds": None if reached is None else reached + 1}
    for key, value in (("cpu", lambda r: r["client_cpu_seconds"]), ("joules", lambda r: r["client_energy_uj"] / 1e6), ("macs", lambda r: macs.get(r["round"], 0)),
                       ("up", lambda r: r["uplink_payload_bytes"]), ("down", lambda r: r["downlink_payload_bytes"])):
        row[key] = None if reached is None else sum(value(line) for line in rounds[:reached + 1])
    return row


def spread(values, form):
    values = [v for v in values if v is not None]
    return f"{form(statistics.mean(values))} ({form(min(values))} to {form(max(values))})" if values else "none"


out = pathlib.Path(sys.argv[1])
table = {}
for setting in sorted(p for p in out.iterdir() if p.is_dir()):
    target = float(os.environ[f"TARGET_{setting.name}"])
    fleets = {f.name: {int(s.name): read(s, target) for s in sorted(f.iterdir()) if (s / "summary.json").exists()} for f in sorted(setting.iterdir())}
    dense = fleets["dense"]
    print(f"\n{setting.name}: mean of the last three evaluations; 'times fewer' until three evaluations in a row reach {target} on average; against 'dense' of the same seed")
    for name, runs in fleets.items():
        seeds = sorted(set(runs) & set(dense))
        if not seeds:
            continue
        left = [runs[s]["parameters"] / dense[s]["parameters"] for s in seeds]
        row = {"seeds": seeds, "accuracy": [runs[s]["last3"] for s in seeds], "left": left, "rounds": [runs[s]["rounds"] for s in seeds],
               "points": [100 * (runs[s]["last3"] - dense[s]["last3"]) for s in seeds]}
        line = f"  {name:10} {len(seeds)} seeds  {100 * statistics.mean(left):.1f} % left  accuracy {spread(row['accuracy'], lambda v: f'{v:.4f}')}"
        line += f"  points {spread(row['points'], lambda v: f'{v:+.2f}')}  rounds {row['rounds']}"
        for key, label in (("cpu", "cpu"), ("joules", "virtual joules"), ("macs", "multiply-adds"), ("up", "bytes up"), ("down", "bytes down")):
            row[key] = [dense[s][key] / runs[s][key] if runs[s][key] and dense[s][key] else None for s in seeds]
            line += f"  {label} {spread(row[key], lambda v: f'{v:.2f}')}"
        print(line)
        table.setdefault(setting.name, {})[name] = row
(out / "table.json").write_text(json.dumps(table, indent=1))
