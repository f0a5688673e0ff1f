#!/usr/bin/env bash
# tests/run.sh must fail when a step fails. Its tools are replaced by stubs; nothing is built.
# usage: run_test.sh REPOSITORY
set -euo pipefail
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/tests" "$root/scripts" "$root/bin"
cp "$1/tests/run.sh" "$root/tests/run.sh"

# stub NAME FILE: a program that exits with what FILE says, or 0.
stub() { printf '#!/bin/sh\n[ ! -f "%s" ] || exit "$(cat "%s")"\n' "$root/$2" "$root/$2" >"$1"; chmod +x "$1"; }
stub "$root/scripts/install_dependencies.sh" dependencies
stub "$root/bin/cmake" cmake
stub "$root/bin/ctest" ctest
export PATH=$root/bin:$PATH

# expect CODE STEP: with STEP failing by CODE, or none.
expect() {
  rm -f "$root"/{dependencies,cmake,ctest}
  [ -z "${2:-}" ] || echo "$1" >"$root/$2"
  local code=0
  "$root/tests/run.sh" >"$root/log" 2>&1 || code=$?
  [ "$code" -eq "$1" ] || { echo "FAILED: ${2:-nothing} failing by $1 made tests/run.sh end with $code"; cat "$root/log"; exit 1; }
  if [ "$code" -eq 0 ]; then grep -q "All tests passed" "$root/log"; else ! grep -q "All tests passed" "$root/log"; fi
}
expect 0
expect 8 ctest
expect 1 cmake
expect 3 dependencies
echo "tests/run.sh fails when a step fails"
