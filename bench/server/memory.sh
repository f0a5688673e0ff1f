#!/usr/bin/env bash
# How much the coordinator's memory grows while 10 and while 50 clients upload 1.66 M float32 parameters at once.
#
#   bench/server/memory.sh [BIN_DIRECTORY]
set -euo pipefail
bin=${1:-build/release/bin}
work=$(mktemp -d)
trap 'kill -9 "${server:-0}" 2>/dev/null || true; rm -rf "$work"' EXIT

for clients in 10 50; do
  out=$work/$clients
  "$bin/fedwatt-server" --listen 127.0.0.1:0 --out "$out" --set model.architecture=fedavg_cnn --set data.path=/usr/share/datasets/fashion-mnist \
    --set partition.clients="$clients" --set federation.rounds=2 --set federation.clients_per_round="$clients" \
    --set federation.wait_for_clients="$clients" --set federation.evaluation=none --set compression.preset=float32 --set security.directory="$work/security" >"$work/$clients.log" 2>&1 &
  server=$!
  for _ in $(seq 200); do [ -s "$out/address" ] && break; sleep 0.1; done
  [ -s "$out/address" ] || { cat "$work/$clients.log" >&2; exit 1; }
  "$bin/parallel_uploads" "$(cat "$out/address")" "$work/security" "$server" "$clients"
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
done
