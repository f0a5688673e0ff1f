#!/usr/bin/env bash
# Runs what the README tells people to type under "Run it by hand" and "Use the trained model", word for word, but for few rounds.
# usage: readme_test.sh REPOSITORY FOLDER_OF_BINARIES
set -euo pipefail
repository=$1
binaries=$2
root=$(mktemp -d)
trap 'kill $(jobs -rp) 2>/dev/null || true; rm -rf "$root"' EXIT

# The first code block below a heading.
block() { awk -v heading="## $1" '$0 == heading {found = 1} found && /^```/ {if (inside) exit; inside = 1; next} inside' "$repository/README.md"; }

mkdir -p "$root/build/release"
ln -s "$binaries" "$root/build/release/bin"
cp -r "$repository/examples" "$root/examples"
cd "$root"
# The environment beats the files.
export FEDWATT_FEDERATION_ROUNDS=2 FEDWATT_FEDERATION_TARGET_ACCURACY=0.1
block "Run it by hand" >commands.sh
grep -q fedwatt-server commands.sh || { echo "FAILED: the README has lost its commands"; exit 1; }
bash -euo pipefail commands.sh
for run in fleet net; do
  grep -q '"outcome":"committed"' "runs/$run/rounds.jsonl" || { echo "FAILED: runs/$run has no committed round"; exit 1; }
done

if /usr/bin/python3 -c 'import torch' 2>/dev/null; then
  block "Use the trained model" >model.py
  echo 'assert scores.shape == (1, 10), scores.shape' >>model.py
  /usr/bin/python3 model.py
fi
