#!/usr/bin/env bash
# Installs what Fedwatt needs: packages of Debian 12, nothing else. Says what it installs; silent when nothing is missing.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/install_dependencies.sh [--quickstart | --tests | --all] [--yes] [--list]
  --quickstart  to build and run the quickstart (default)
  --tests       and to run the tests
  --all         and for development: clang with its tools and libFuzzer
  --yes         do not ask before installing
  --list        print the packages and stop
TEXT
}

# Compiler and tools; libraries; training and its BLAS (libtorch-dev alone brings the reference BLAS, 30 times slower); data.
quickstart=(
  ccache cmake g++ ninja-build pkg-config
  grpc-proto libabsl-dev libcli11-dev libgrpc++-dev libhwy-dev libprotobuf-dev libspdlog-dev libsqlite3-dev libssl-dev libtomlplusplus-dev libzstd-dev
  nlohmann-json3-dev protobuf-compiler protobuf-compiler-grpc zlib1g-dev
  libopenblas0-pthread libtorch-dev
  dataset-fashion-mnist)
# python3-torch: the tests load the models we write in Python, and train one scripted there; python3-torchvision: they shrink its networks.
# iproute2: a test lays a virtual cable between network namespaces.
tests=(iproute2 libgmock-dev libgtest-dev python3 python3-torch python3-torchvision)
development=(clang clang-format clang-tidy libclang-rt-14-dev)

packages=("${quickstart[@]}")
assume_yes=false
list=false
for argument in "$@"; do
  case "$argument" in
    --quickstart) packages=("${quickstart[@]}") ;;
    --tests) packages=("${quickstart[@]}" "${tests[@]}") ;;
    --all) packages=("${quickstart[@]}" "${tests[@]}" "${development[@]}") ;;
    --yes | -y) assume_yes=true ;;
    --list) list=true ;;
    --help | -h) usage; exit 0 ;;
    *) echo "install_dependencies: unknown argument: $argument" >&2; usage >&2; exit 2 ;;
  esac
done
if $list; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

os_name() { (. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-unknown}") || uname -s; }
is_debian_12() { (. /etc/os-release 2>/dev/null && [ "${VERSION_CODENAME:-}" = bookworm ]); }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_dependencies: this is $(os_name), without apt. Fedwatt is built on Debian 12; install what corresponds to:" >&2
  echo "  ${packages[*]}" >&2
  exit 1
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

is_debian_12 || echo "install_dependencies: this is $(os_name), not Debian 12; packages may be missing or too old." >&2
echo "Installing ${#missing[@]} Debian package(s) and what they need:"
echo "  ${missing[*]}" | fold -s -w 110 | sed '2,$s/^/  /'

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_dependencies: not root and no sudo: run this script as root once." >&2; exit 1; }
  root=(sudo)
fi
if ! $assume_yes && [ -t 0 ]; then
  read -r -p "Continue? [Y/n] " answer
  case "$answer" in "" | [Yy]*) ;; *) echo "Nothing was installed." >&2; exit 1 ;; esac
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    echo "install_dependencies: apt-get $1 failed (above)." >&2
    exit 1
  fi
}
[ ${#root[@]} -eq 0 ] || sudo -v  # asks for the password where it can be seen
apt update
apt install -y --no-install-recommends "${missing[@]}"
