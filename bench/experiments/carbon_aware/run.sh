#!/usr/bin/env bash
# What carbon_aware saves against uniform: (1) over 20 starts on made-up series in the style of recorded ones, forecasts replayed as issued, beside a bound that knows the future
# (bench/round/carbon_schedule_bench.cc); (2) what it does to accuracy: real training of mlp_2nn on Fashion-MNIST in the simulated fleet, the same series, paired by seed.
#
#   bench/experiments/carbon_aware/run.sh [BIN_DIRECTORY] [OUT]
#
# STARTS (20), SEEDS ("1 2 3"), ROUNDS (100) shorten or change it. Needs FEDWATT_BUILD_BENCH.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
"$bin/carbon_schedule_bench" "${STARTS:-20}" | tee "$out/schedule.txt"
common=(--config examples/simulated_fleet/fashion_mnist_2nn.toml --set "federation.rounds=${ROUNDS:-100}" --set federation.evaluate_every=10
        --set energy.device_class=raspberry_pi_4 --set simulation.start=2026-01-03T09:00:00Z
        --set 'carbon.sites=["clean zone=S:clean","windy zone=S:windy","sunny zone=S:sunny","coal zone=S:coal"]')
for seed in ${SEEDS:-1 2 3}; do
  series="$out/series-$seed.csv"
  [ -s "$series" ] || "$bin/carbon_schedule_bench" --csv "$seed" "$series"
  for policy in uniform carbon_aware; do
    slack=0
    [ "$policy" = carbon_aware ] && slack=24h
    run_fleet "$bin" "$out/$policy/$seed" "$seed" "${common[@]}" --set "carbon.series=[\"$series\"]" --set "selection.policy=$policy" --set "selection.slack=$slack"
  done
done
python3 "$here/table.py" "$out"
