#!/usr/bin/env bash
# A fleet of four kinds of devices against a deadline that a quarter of them misses with the whole model: everybody waited for (patient), everybody at full width with the deadline (strict), and by_budget with it
# (budget). Prints accuracy, virtual seconds, joules of clients, wasted ones included, and attempts that were late; each fleet a line.
#
#   bench/experiments/by_budget/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3"), MLP_ROUNDS (40) and DEADLINE (700ms) shorten or change it.
set -euo pipefail
here=$(dirname "$0")
out=${2:-$(mktemp -d)}
fleet='energy.device_class=laptop:0.25,jetson_nano:0.25,raspberry_pi_4:0.25,phone:0.25 simulation.workers=1'
strict="$fleet federation.deadline=${DEADLINE:-700ms}"
export SEEDS=${SEEDS:-1 2 3} MLP_ROUNDS=${MLP_ROUNDS:-40} SETTINGS=mlp
export FLEETS="patient=$fleet;strict=$strict;budget=$strict fit.policy=by_budget fit.widths=[1,0.5,0.25,0.125]"
"$here/../mixed_widths/run.sh" "${1:-build/release/bin}" "$out" >/dev/null
python3 "$here/table.py" "$out/mlp"
