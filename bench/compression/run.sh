#!/usr/bin/env bash
# Rate, distortion and speed of all codecs, on updates of mlp_2nn on Fashion-MNIST recorded on the spot and on synthetic values.
#
#   bench/compression/run.sh [BIN_DIRECTORY] [OUT]
#
# ROUNDS (1,10,40) are the rounds that are recorded, REPETITIONS (15) how often each speed is measured. Results stay in OUT, if given.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-build/release/bin}
if [ $# -ge 2 ]; then
  out=$2
  mkdir -p "$out"
else
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
"$bin/record_updates" --config examples/simulated_fleet/fashion_mnist_2nn.toml --seed 1 --rounds "${ROUNDS:-1,10,40}" --out "$out/updates"
"$bin/compression_bench" --repetitions="${REPETITIONS:-15}" --symbols="$out/symbols" "$out/updates" >"$out/results.jsonl"
echo "load while measuring: $(cut -d' ' -f1 /proc/loadavg)"
python3 bench/compression/table.py "$out/results.jsonl"
