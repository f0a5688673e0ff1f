#!/usr/bin/env bash
# Installs what the tests need, builds one preset and runs every test.
# usage: tests/run.sh [release | dev | asan-ubsan | clang]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
jobs=$(nproc)

summary=()
step() {  # step NAME COMMAND...
  local name=$1 start=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  summary+=("$(printf '%-12s %4d s' "$name" $((SECONDS - start)))")
  return "$status"
}

# The clang preset needs clang; the others what the tests need.
packages=--tests
[ "$preset" != clang ] || packages=--all

step dependencies scripts/install_dependencies.sh "$packages" --yes
# The quickstart configures without tests.
step configure cmake --preset "$preset" -DFEDWATT_BUILD_TESTS=ON -DFEDWATT_BUILD_BENCH=ON
step build cmake --build --preset "$preset" -j "$jobs"
# Each public header compiles by itself.
step headers cmake --build --preset "$preset" -j "$jobs" --target all_verify_interface_header_sets
result=0
step tests ctest --test-dir "build/$preset" --no-tests=error --output-on-failure -j "$jobs" || result=$?

echo "== summary: preset $preset"
printf '%s\n' "${summary[@]}"
if [ "$result" -eq 0 ]; then
  echo "All tests passed."
else
  echo "Some tests failed; again, alone: ctest --test-dir build/$preset --rerun-failed --output-on-failure"
fi
exit "$result"
