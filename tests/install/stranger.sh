#!/usr/bin/env bash
# The steps of tests/install/CMakeLists.txt; examples/embed_client/README.md tells people the same.
set -euo pipefail

fail() { echo "FAILED: $*" >&2; exit 1; }

# install BUILD PREFIX
step_install() {
  rm -rf "$2"
  cmake --install "$1" --prefix "$2" >/dev/null
  [ -f "$2/include/fedwatt/client/client.h" ] || fail "the client's header is not installed"
}

# build SOURCE BUILD PREFIX COMPILER
step_build() {
  rm -rf "$2"
  cmake -S "$1" -B "$2" -G Ninja -DCMAKE_PREFIX_PATH="$3" -DCMAKE_CXX_COMPILER="$4" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON --no-warn-unused-cli
  cmake --build "$2"
  local result=0
  "$2/embed_client" 2>/dev/null || result=$?
  [ "$result" -eq 2 ] || fail "embed_client without arguments: expected exit code 2, got $result"
  ! ldd "$2/embed_client" | grep -E "libtorch|libc10|openblas" || fail "a device's program must not link LibTorch"
}

# components SOURCE BUILD PREFIX
step_components() {
  rm -rf "$2"
  cmake -S "$1" -B "$2" -G Ninja -DCMAKE_PREFIX_PATH="$3" -DCOMPONENTS="base;energy"
  cmake --build "$2"
  rm -rf "$2"
  local output
  output=$(cmake -S "$1" -B "$2" -G Ninja -DCMAKE_PREFIX_PATH="$3" -DCOMPONENTS="cellar" 2>&1) && fail "an unknown component was accepted"
  grep -q "no component 'cellar'" <<<"$output" || fail "an unknown component is not named in: $output"
}

# federate SOURCE PREFIX BUILD_OF_EMBED_CLIENT FOLDER
step_federate() {
  local out=$4
  rm -rf "$out"
  mkdir -p "$out"
  cd "$1"
  "$2/bin/fedwatt-server" --config examples/embed_client/coordinator.toml --listen 127.0.0.1:0 --out "$out" \
    --set "security.directory=$out/security" >"$out/server.log" 2>&1 &
  local server=$! clients=() client
  trap 'kill $server ${clients[@]+"${clients[@]}"} 2>/dev/null || true' EXIT
  for _ in $(seq 300); do
    [ ! -s "$out/address" ] || break
    kill -0 $server 2>/dev/null || { cat "$out/server.log"; fail "the coordinator ended"; }
    sleep 0.1
  done
  for client in 0 1 2; do
    "$3/embed_client" "$(cat "$out/address")" "$out/security" $client 3 >"$out/client-$client.log" 2>&1 &
    clients+=($!)
  done
  for client in 0 1 2; do
    wait "${clients[$client]}" || { cat "$out"/*.log; fail "device $client"; }
    grep -q "updates accepted" "$out/client-$client.log" || fail "device $client says nothing of its updates"
  done
  wait $server || { cat "$out/server.log"; fail "the coordinator missed its target"; }
  trap - EXIT
  tail -n 1 "$out/rounds.jsonl"
}

step=$1
shift
"step_$step" "$@"
