"""Reads the run records that run.sh made: what adapters lose and save against the whole network of the same seed; a table on stdout and table.json."""
import json
import pathlib
import statistics
import sys


def read(run):
    rounds = [json.loads(line) for line in open(run / "rounds.jsonl")]
    return {"accuracy": rounds[-1]["eval_accuracy"], "values": rounds[-1]["model_parameters"], "up": sum(line["uplink_payload_bytes"] for line in rounds),
            "down": sum(line["downlink_payload_bytes"] for line in rounds), "cpu": sum(line["client_cpu_seconds"] for line in rounds)}


def spread(values, form):
    return f"{form(statistics.mean(values))} ({form(min(values))} to {form(max(values))})"


out = pathlib.Path(sys.argv[1])
arms = {arm.name: {int(run.name): read(run) for run in sorted(arm.iterdir()) if (run / "summary.json").exists()} for arm in sorted((out / "arms").iterdir())}
whole = arms["whole"]
print("| Arm | Seeds | Values trained | Accuracy | Points against whole | MB up, times fewer | MB down, times fewer | Processor seconds, times whole |")
print("|---|---|---|---|---|---|---|---|")
for name, runs in arms.items():
    seeds = sorted(set(runs) & set(whole))
    cells = [name, str(len(seeds)), f"{runs[seeds[0]]['values']:,}", spread([runs[s]["accuracy"] for s in seeds], lambda v: f"{v:.4f}"),
             spread([100 * (runs[s]["accuracy"] - whole[s]["accuracy"]) for s in seeds], lambda v: f"{v:+.2f}")]
    for way in ("up", "down"):
        cells.append(f"{statistics.mean(runs[s][way] for s in seeds) / 1e6:.3f}, {statistics.mean(whole[s][way] / runs[s][way] for s in seeds):.1f}")
    cells.append(f"{statistics.mean(runs[s]['cpu'] / whole[s]['cpu'] for s in seeds):.2f}")
    print("| " + " | ".join(cells) + " |")
(out / "table.json").write_text(json.dumps(arms, indent=1))
