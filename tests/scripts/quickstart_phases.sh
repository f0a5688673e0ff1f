#!/usr/bin/env bash
# The quickstart as it stands in the README; and at least 99 % of the life of each of its clients is in phases.
set -euo pipefail
cd "$(dirname "$0")/../.."
said=$(examples/quickstart.sh | tee /dev/stderr)
out=$(sed -n 's/^The record, the model and the logs are in //p' <<<"$said")
clients=0
for log in "$out"/client-*.log; do
  share=$(sed -n 's/.*time and joules, \([0-9.]*\) % of the .* since the start: .*/\1/p' "$log")
  echo "$log: $share % in phases"
  awk -v share="$share" 'BEGIN { exit !(share >= 99 && share <= 100.5) }' || { echo "expected 99 to 100.5 %" >&2; exit 1; }
  clients=$((clients + 1))
done
[ "$clients" -eq 8 ] || { echo "expected the logs of 8 clients in $out, got $clients" >&2; exit 1; }
