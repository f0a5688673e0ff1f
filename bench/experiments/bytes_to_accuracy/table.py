"""Reads the run records that run.sh made: rounds and bytes to each target, paired with float32 by seed; a table on stdout, table.json and plot.svg."""
import json
import pathlib
import statistics
import sys

TARGETS = {"iid": [0.870, 0.885], "dirichlet": [0.840], "cnn": [], "lstm": []}
# 95 % points of Student's t for 1, 2, ... degrees of freedom: two-sided intervals of 90 %.
STUDENT = [6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833]
COLOURS = ["#444444", "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"]


def read(run):
    rounds = [json.loads(line) for line in open(run / "rounds.jsonl")]
    up = down = 0
    points = []
    for line in rounds:
        up += line["uplink_payload_bytes"]
        down += line["downlink_payload_bytes"]
        if line["eval_accuracy"] is not None:
            points.append({"round": line["round"], "accuracy": line["eval_accuracy"], "up": up, "down": down})
    dense = sum(line["uplink_dense_bytes"] for line in rounds)
    dense_down = sum(line["downlink_dense_bytes"] for line in rounds)
    return {"points": points, "rounds": rounds[-1]["round"], "up_bits": 32 * up / dense, "down_bits": 32 * down / dense_down,
            "last10": statistics.mean(p["accuracy"] for p in points if p["round"] > rounds[-1]["round"] - 10)}


def reach(run, target):
    return next((p for p in run["points"] if p["accuracy"] >= target), None)


def against(runs, base):
    """What float32 of the same seed has more, in points of accuracy over the last ten rounds: mean and 90 % interval. Of runs as long as it alone."""
    losses = [100 * (base[seed]["last10"] - run["last10"]) for seed, run in runs.items() if seed in base and base[seed]["rounds"] == run["rounds"]]
    if not losses or runs is base:
        return "-", losses
    mean = statistics.mean(losses)
    if not 2 <= len(losses) <= len(STUDENT) + 1:
        return f"{mean:.2f}", losses
    half = STUDENT[len(losses) - 2] * statistics.stdev(losses) / len(losses) ** 0.5
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})", losses


def spread(values, form):
    values = [v for v in values if v is not None]
    if not values:
        return "not reached"
    return form(statistics.mean(values)) + (f" ({form(min(values))} to {form(max(values))})" if len(values) > 1 else "")


def plot(name, runs, path):
    width, height, left, bottom = 640, 400, 60, 40
    curves = [(codec, run["points"]) for codec, seeds in runs.items() for run in seeds.values()]
    import math
    most = max(p["up"] + p["down"] for _, points in curves for p in points)
    least = min(points[0]["up"] + points[0]["down"] for _, points in curves)
    low, high = math.log10(max(1, least)), math.log10(most)
    floor = min(p["accuracy"] for _, points in curves for p in points)
    ceiling = max(p["accuracy"] for _, points in curves for p in points)
    x = lambda p: left + (math.log10(p["up"] + p["down"]) - low) / (high - low) * (width - left - 10)
    y = lambda p: 10 + (ceiling - p["accuracy"]) / (ceiling - floor) * (height - bottom - 10)
    names = list(runs)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">{name}: payload bytes up and down, all clients (log)</text>']
    for power in range(math.ceil(low), math.floor(high) + 1):
        at = left + (power - low) / (high - low) * (width - left - 10)
        parts.append(f'<line x1="{at}" x2="{at}" y1="10" y2="{height - bottom}" stroke="#ddd"/><text x="{at}" y="{height - bottom + 14}" text-anchor="middle">1e{power}</text>')
    for step in range(5):
        value = floor + (ceiling - floor) * step / 4
        at = y({"accuracy": value})
        parts.append(f'<line x1="{left}" x2="{width - 10}" y1="{at}" y2="{at}" stroke="#ddd"/><text x="{left - 4}" y="{at + 4}" text-anchor="end">{value:.3f}</text>')
    for codec, points in curves:
        colour = COLOURS[names.index(codec) % len(COLOURS)]
        path_data = " ".join(f"{x(p):.1f},{y(p):.1f}" for p in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.2" points="{path_data}"/>')
    for i, codec in enumerate(names):
        parts.append(f'<text x="{left + 10}" y="{26 + 15 * i}" fill="{COLOURS[i % len(COLOURS)]}">{codec}</text>')
    path.write_text("\n".join(parts + ["</svg>"]))


def main():
    out = pathlib.Path(sys.argv[1])
    table = {}
    for setting in [name for name in TARGETS if (out / name).is_dir()]:
        runs = {}
        for codec in sorted((out / setting).iterdir(), key=lambda p: (p.name != "float32", p.name)):
            runs[codec.name] = {run.name: read(run) for run in sorted(codec.iterdir()) if (run / "summary.json").exists()}
        base = runs.get("float32", {})
        # Without a published target: what float32 reaches at the end, less a point.
        targets = TARGETS[setting] or ([round(min(run["last10"] for run in base.values()) - 0.01, 3)] if base else [])
        print(f"\n{setting}: {max(len(seeds) for seeds in runs.values())} seeds at most\n")
        print("| codec | up, down bits a parameter | mean of the last 10 rounds | points lost to float32 (90 % interval) | " + " | ".join(f"rounds to {t}: mean (spread), times float32 | bytes to {t}: times fewer" for t in targets) + " |")
        print("|---|---|---|---|" + "---|---|" * len(targets))
        for codec, seeds in runs.items():
            cells = [codec, f"{statistics.mean(r['up_bits'] for r in seeds.values()):.3f}, {statistics.mean(r['down_bits'] for r in seeds.values()):.3f}",
                     f"{statistics.mean(r['last10'] for r in seeds.values()):.4f}", against(seeds, base)[0]]
            table.setdefault(setting, {}).setdefault(codec, {})["points_lost"] = against(seeds, base)[1]
            for target in targets:
                reached = {seed: reach(run, target) for seed, run in seeds.items()}
                paired = {seed: reach(base[seed], target) for seed in seeds if seed in base}
                both = [s for s in reached if reached[s] and paired.get(s)]
                rounds = spread([p["round"] if p else None for p in reached.values()], lambda v: f"{v:.0f}")
                times = statistics.mean(reached[s]["round"] for s in both) / statistics.mean(paired[s]["round"] for s in both) if both else None
                ratios = [(paired[s]["up"] + paired[s]["down"]) / (reached[s]["up"] + reached[s]["down"]) for s in both]
                missed = len(reached) - sum(p is not None for p in reached.values())
                cells += [rounds + (f", {times:.2f}" if times else "") + (f"; {missed} not reached" if missed else ""), spread(ratios, lambda v: f"{v:.1f}") if ratios else "-"]
                table.setdefault(setting, {}).setdefault(codec, {})[str(target)] = {
                    "rounds": [p["round"] if p else None for p in reached.values()], "times_fewer_bytes": ratios}
            print("| " + " | ".join(cells) + " |")
        plot(setting, runs, out / f"{setting}.svg")
    (out / "table.json").write_text(json.dumps(table, indent=1))
    print(f"\nplots and table.json in {out}", file=sys.stderr)


main()
