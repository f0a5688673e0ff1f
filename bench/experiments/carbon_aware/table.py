"""Final accuracy, grams and participation of the paired fleets that run.sh left in a folder."""
import collections
import json
import pathlib
import statistics
import sys


def gini(counts):
    counts = sorted(counts)
    n, total = len(counts), sum(counts)
    return (2 * sum((i + 1) * count for i, count in enumerate(counts)) - (n + 1) * total) / (n * total)


def figures(run):
    summary = json.loads((run / "summary.json").read_text())
    counts = collections.Counter({partition: 0 for partition in range(int(summary["config"]["partition.clients"]["value"]))})
    for line in (run / "clients.jsonl").read_text().splitlines():
        counts[json.loads(line)["partition"]] += 1
    grams = (summary["client_operational_ug"] + (summary["client_wasted_ug"] or 0)) / 1e6
    return summary["final_accuracy"], grams, gini(counts.values())


def main():
    out = pathlib.Path(sys.argv[1])
    print(f"{'seed':>4}  {'accuracy uniform':>16}  {'carbon_aware':>12}  {'grams uniform':>13}  {'carbon_aware':>12}  {'% fewer':>7}  {'Gini':>5}")
    rows = []
    for run in sorted((out / "uniform").iterdir(), key=lambda path: int(path.name)):
        plain, aware = figures(run), figures(out / "carbon_aware" / run.name)
        cut = 100 * (1 - aware[1] / plain[1])
        rows.append((plain[0], aware[0], cut))
        print(f"{run.name:>4}  {plain[0]:16.4f}  {aware[0]:12.4f}  {plain[1]:13.4f}  {aware[1]:12.4f}  {cut:7.1f}  {aware[2]:5.2f}")
    differences = [aware - plain for plain, aware, _ in rows]
    print(f"accuracy, carbon_aware less uniform: mean {statistics.mean(differences):+.4f}, least {min(differences):+.4f}, greatest {max(differences):+.4f}")


if __name__ == "__main__":
    main()
