#!/usr/bin/env bash
# Bytes on the wire, by the kernel's count on the coordinator's sockets, of a real federation over TLS: every client is a process of its own.
#
#   bench/experiments/bytes_to_accuracy/networked.sh [BIN_DIRECTORY] [OUT]
#
# CLIENTS (20) of PARTITIONS (100) parts, PER_ROUND (2), ROUNDS (40) and PRESETS ("float32 smallest") change it. Prints, for each preset, wire bytes, payload bytes and what is neither, a
# client and round, and how many times fewer bytes the later presets put on the wire than the first.
set -euo pipefail
bin=${1:-build/release/bin}
out=${2:-$(mktemp -d)}
clients=${CLIENTS:-20} partitions=${PARTITIONS:-100} rounds=${ROUNDS:-40} per_round=${PER_ROUND:-2}
for preset in ${PRESETS:-float32 smallest}; do
  run="$out/$preset"
  mkdir -p "$run"
  flags=(--config examples/simulated_fleet/fashion_mnist_2nn.toml --set "partition.clients=$partitions" --set "federation.clients_per_round=$per_round"
    --set "federation.wait_for_clients=$clients" --set "federation.rounds=$rounds" --set "federation.evaluate_every=$rounds" --set "seed=1"
    --set "compression.preset=$preset" --set compression.uplink= --set compression.downlink= --set "security.directory=$run/security")
  "$bin/fedwatt-server" "${flags[@]}" --listen 127.0.0.1:0 --out "$run/record" 2>"$run/server.log" &
  server=$!
  trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
  for _ in $(seq 600); do [ -s "$run/record/address" ] && break; sleep 0.1; done
  for part in $(seq 0 $((clients - 1))); do
    "$bin/fedwatt-client" "${flags[@]}" --server "$(cat "$run/record/address")" --partition "$part/$partitions" 2>"$run/client-$part.log" &
  done
  wait "$server"
  wait
done
python3 - "$out" ${PRESETS:-float32 smallest} <<'PYTHON'
import json, sys

first = None
for preset in sys.argv[2:]:
    lines = [json.loads(line) for line in open(f"{sys.argv[1]}/{preset}/record/rounds.jsonl")]
    # The first round pays for joining: check-ins and handshakes of everybody.
    lines = lines[1:]
    work = sum(line["clients_completed"] for line in lines)
    total = {key: sum(line[key] for line in lines) for key in ("uplink_wire_bytes", "downlink_wire_bytes", "uplink_payload_bytes", "downlink_payload_bytes")}
    wire = total["uplink_wire_bytes"] + total["downlink_wire_bytes"]
    payload = total["uplink_payload_bytes"] + total["downlink_payload_bytes"]
    first = first or wire / work
    print(f"{preset:10} a client and round: wire {wire / work:9.0f} B = payload {payload / work:9.0f} B + control {(wire - payload) / work:6.0f} B"
          f" (up {(total['uplink_wire_bytes'] - total['uplink_payload_bytes']) / work:.0f}, down {(total['downlink_wire_bytes'] - total['downlink_payload_bytes']) / work:.0f});"
          f" {first / (wire / work):.1f} times fewer than {sys.argv[2]}")
PYTHON
