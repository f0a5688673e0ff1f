"""Tables, frontier.json and frontier.svg of an architecture_frontier folder: python3 table.py OUT [BUDGET]."""

import json
import pathlib
import statistics
import sys

OUT = pathlib.Path(sys.argv[1])
BUDGET = float(sys.argv[2]) if len(sys.argv) > 2 else None


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def spread(values, form):
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    text = format(statistics.mean(values), form)
    return text if len(values) == 1 else f"{text} ({format(min(values), form)} to {format(max(values), form)})"


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def run_of(folder):
    """One seed's costs and what they reached; what nobody measured is None."""
    rounds = lines(folder / "rounds.jsonl")
    total = lambda key: None if any(line[key] is None for line in rounds) else sum(line[key] for line in rounds)
    energy, spent, at_budget = total("client_energy_uj"), 0.0, None
    for line in rounds:
        spent += line["client_cpu_seconds"] or 0
        if BUDGET is None or spent <= BUDGET:
            at_budget = line["train_loss"]
    tiers = {line["client_energy_tier"] for line in rounds}
    return {"parameters": rounds[-1]["model_parameters"], "rounds": len(rounds), "loss": rounds[-1]["eval_loss"], "accuracy": rounds[-1]["eval_accuracy"],
            "joules": None if energy is None else energy / 1e6, "tier": "/".join(sorted(str(tier) for tier in tiers)), "cpu_seconds": total("client_cpu_seconds"),
            "peak_bytes": max(line["peak_rss_bytes"] for line in rounds),
            "bytes_a_round": (sum(line["uplink_payload_bytes"] + line["downlink_payload_bytes"] for line in rounds)) / len(rounds), "train_loss_at_budget": at_budget}


def runs(part):
    folder = OUT / part
    if not folder.exists():
        return {}
    return {name.name: [run_of(seed) for seed in sorted(name.iterdir()) if (seed / "summary.json").exists()] for name in sorted(folder.iterdir())}


def spikes_of(seed):
    path = seed / "spikes.txt"
    if not path.exists():
        return None
    first, *statements = path.read_text().splitlines()
    return {**json.loads(first), "statements": statements}


def theoretical(part, name):
    """Picojoules of one inference on hardware that nobody measured; only where spikes were counted."""
    if not (OUT / part / name).exists():
        return []
    found = [spikes_of(seed) for seed in sorted((OUT / part / name).iterdir())]
    return [spikes["comparisons"][1]["spiking_theoretical_pj"] for spikes in found if spikes]


def frontier(part):
    found = runs(part)
    if not found:
        return found
    head = ["Architecture", "Parameters", "Accuracy", "Loss", "Joules of clients (tier)", "CPU seconds of clients", "Peak memory, MB", "kB a round", "Theoretical pJ an inference"]
    if BUDGET is not None:
        head.append(f"Training loss within {BUDGET:g} CPU s")
    rows = []
    for name, seeds in sorted(found.items(), key=lambda pair: pair[1][0]["cpu_seconds"] or 0):
        of = lambda key, scale=1.0: [None if run[key] is None else run[key] / scale for run in seeds]
        rows.append([f"`{name}`", f"{seeds[0]['parameters']:,}", spread(of("accuracy"), ".4f"), spread(of("loss"), ".4f"), f"{spread(of('joules'), '.1f')} ({seeds[0]['tier']})",
                     spread(of("cpu_seconds"), ".1f"), spread(of("peak_bytes", 1e6), ".0f"), spread(of("bytes_a_round", 1e3), ".0f"), spread(theoretical(part, name), ".3g")]
                    + ([spread(of("train_loss_at_budget"), ".3f")] if BUDGET is not None else []))
    print(f"{part}: {len(next(iter(found.values())))} seed(s)\n")
    table(head, rows)
    return found


def lengths():
    path = OUT / "length.jsonl"
    if not path.exists():
        return []
    found = lines(path)
    all_lengths = sorted({run["length"] for run in found})
    names = list(dict.fromkeys(run["architecture"] for run in found))
    at = {(run["architecture"], run["length"]): run for run in found}
    for key, title, form, scale in (("training_us_per_token", "Training, CPU microseconds a token", ".1f", 1), ("inference_us_per_token", "Inference, CPU microseconds a token", ".1f", 1),
                                    ("training_peak_bytes", "Training, MB beyond what the process held", ".0f", 1e6)):
        table([title] + [f"{length:,} tokens" for length in all_lengths], [[f"`{name}`"] + [format(at[name, length][key] / scale, form) for length in all_lengths] for name in names])
    path = OUT / "recurrent.jsonl"
    if path.exists():
        by = {}
        for run in lines(path):
            by.setdefault(run["architecture"], []).append(run["training_us_per_token"])
        ratios = [a / b for a, b in zip(by["gru"], by["min_gru"])]
        print(f"gru over min_gru, training, 256 tokens: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {len(ratios)} pairs\n")
    return found


def plot(found, path):
    """Loss against joules, a dot a run, the shape of a frontier: down and left is better."""
    points = [(run["joules"], run["loss"], name) for name, seeds in found.items() for run in seeds if run["joules"] and run["loss"]]
    if not points:
        return
    width, height, left, bottom = 640, 360, 60, 44
    low_x, high_x = 0, 1.08 * max(x for x, _, _ in points)
    low_y, high_y = 0.98 * min(y for _, y, _ in points), 1.02 * max(y for _, y, _ in points)
    at_x = lambda x: left + (x - low_x) / (high_x - low_x) * (width - left - 130)
    at_y = lambda y: height - bottom - (y - low_y) / (high_y - low_y) * (height - bottom - 16)
    colours = ["#1b6ca8", "#c44536", "#2a9d8f", "#8e5aa8", "#b7791f", "#4a5568"]
    names = sorted(found)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"><rect width="{width}" height="{height}" fill="#fff"/>',
             f'<path d="M{left} 16V{height - bottom}H{width - 120}" fill="none" stroke="#444"/>']
    for i in range(5):
        x, y = low_x + (high_x - low_x) * i / 4, low_y + (high_y - low_y) * i / 4
        parts.append(f'<text x="{at_x(x):.0f}" y="{height - bottom + 16}" text-anchor="middle">{x:.0f}</text><text x="{left - 6}" y="{at_y(y) + 4:.0f}" text-anchor="end">{y:.2f}</text>')
    tier = next(iter(found.values()))[0]["tier"]
    parts.append(f'<text x="{(left + width - 120) / 2:.0f}" y="{height - 8}" text-anchor="middle">joules of all clients (tier: {tier}; an estimate unless metered)</text>')
    parts.append(f'<text x="14" y="{height / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {height / 2:.0f})">loss on held-out text</text>')
    for x, y, name in points:
        parts.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="5" fill="{colours[names.index(name) % len(colours)]}"/>')
    for i, name in enumerate(names):
        parts.append(f'<circle cx="{width - 112}" cy="{24 + 18 * i}" r="5" fill="{colours[i % len(colours)]}"/><text x="{width - 102}" y="{28 + 18 * i}">{name}</text>')
    path.write_text("\n".join(parts + ["</svg>\n"]))


result = {"length": lengths()}
for part in ("characters", "images", "recall"):
    result[part] = frontier(part)
folder = OUT / "images" / "lif_snn"
result["spikes"] = [spikes for spikes in map(spikes_of, sorted(folder.iterdir())) if spikes] if folder.exists() else []
if result["spikes"]:
    print(f"Spikes a neuron and step: {spread([spikes['spike_rate'] for spikes in result['spikes']], '.4f')}\n")
    print("\n".join(result["spikes"][0]["statements"]) + "\n")
plot(result["characters"], OUT / "frontier.svg")
(OUT / "frontier.json").write_text(json.dumps(result, indent=1) + "\n")
