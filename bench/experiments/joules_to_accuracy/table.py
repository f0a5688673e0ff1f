"""Reads the run records that run.sh made: what each arm takes to a target, as a ratio to float32 of the same seed; a table on stdout and table.json.

usage: table.py OUT TARGET
"""
import json
import math
import pathlib
import statistics
import sys

# 95 % points of Student's t for 1, 2, ... degrees of freedom: two-sided intervals of 90 %.
STUDENT = [6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833]
WATTS, FACTOR = 2.5, 3  # of one busy core of a server processor, within a factor of three either way: the generic tier of energy/meters/cpu_time.cc
CONTROL_BYTES = 865  # of a client and round beside the payload, on the wire: bench/experiments/bytes_to_accuracy/networked.sh


def read(run, target):
    """What it took until three evaluations in a row reach the target on average: one alone is luck. None where that never was."""
    scores, row = [], dict.fromkeys(("cpu", "payload", "wire", "examples"), 0)
    for line in open(run / "rounds.jsonl"):
        line = json.loads(line)
        row["cpu"] += line["client_cpu_seconds"]
        payload = line["uplink_payload_bytes"] + line["downlink_payload_bytes"]
        row["payload"] += payload
        row["wire"] += payload + CONTROL_BYTES * line["clients_selected"]
        row["examples"] += line["train_examples"]
        if line["eval_accuracy"] is None:
            continue
        scores.append(line["eval_accuracy"])
        if len(scores) >= 3 and statistics.mean(scores[-3:]) >= target:
            row["rounds"] = line["round"]
            return row, max(scores)
    return None, max(scores)


def interval(ratios):
    """Geometric mean, and Student's 90 % interval of the logarithms' mean where there are three seeds or more."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.mean(logs)
    if not 3 <= len(logs) <= len(STUDENT) + 1:
        return math.exp(mean), None
    half = STUDENT[len(logs) - 2] * statistics.stdev(logs) / len(logs) ** 0.5
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


def main():
    out, target = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    table = {}
    for setting in sorted(p for p in out.iterdir() if p.is_dir()):
        arms = {arm.name: {run.name: read(run, target) for run in sorted(arm.iterdir()) if (run / "summary.json").exists()} for arm in sorted(setting.iterdir())}
        base = arms.get("float32", {})
        print(f"\n{setting.name}, to {target}: means; ratios to float32 of the same seed: geometric mean, 90 % interval, seeds")
        print(f"joules: processor seconds x {WATTS} W, tier generic; a factor of {FACTOR} either way is common to all arms and not in the ratios\n")
        print("| Arm | Rounds | Processor s | Joules | Payload MB | Joules and processor time, ratio | Wire bytes, ratio |\n|---|---|---|---|---|---|---|")
        for name in sorted(arms, key=lambda n: (n != "float32", n)):
            runs = arms[name]
            reached = [row for row, _ in runs.values() if row]
            missed = {seed: best for seed, (row, best) in runs.items() if not row}
            cells = [name]
            if reached:
                mean = {key: statistics.mean(row[key] for row in reached) for key in ("rounds", "cpu", "payload")}
                cells += [f"{mean['rounds']:.0f}", f"{mean['cpu']:.2f}", f"{WATTS * mean['cpu']:.1f} ({WATTS * mean['cpu'] / FACTOR:.1f} to {WATTS * mean['cpu'] * FACTOR:.0f})", f"{mean['payload'] / 1e6:.2f}"]
            else:
                cells += ["-"] * 4
            both = [seed for seed, (row, _) in runs.items() if row and base.get(seed, (None,))[0]]
            entry = table.setdefault(setting.name, {}).setdefault(name, {"seeds": both, "runs": {seed: row for seed, (row, _) in runs.items()}, "missed": missed})
            for key in ("cpu", "wire"):
                ratios = [runs[seed][0][key] / base[seed][0][key] for seed in both]
                entry[key + "_ratios"] = ratios
                if name == "float32" or not ratios:
                    cells.append("-")
                    continue
                mean, bounds = interval(ratios)
                entry[key + "_ratio"], entry[key + "_interval"] = mean, bounds
                cells.append(f"{mean:.4f} ({f'{bounds[0]:.4f} to {bounds[1]:.4f}' if bounds else f'{min(ratios):.4f} to {max(ratios):.4f}, no interval'}; {len(ratios)})")
            print("| " + " | ".join(cells) + " |" + "".join(f" seed {seed}: not reached, best {best:.4f}" for seed, best in missed.items()))
    (out / "table.json").write_text(json.dumps(table, indent=1))


main()
