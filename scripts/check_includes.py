#!/usr/bin/env python3
"""Checks that arrows between rooms point down, in #include lines and in CMake (docs/architecture.md draws the levels).

usage: check_includes.py REPOSITORY | --self-test
Exit 1 with one line `file:line: message` a finding.
"""
import pathlib
import re
import sys
import tempfile

LEVELS = {
    "base": 0, "proto": 0,
    "model": 1, "energy": 1,
    "data": 2, "aggregation": 2, "compression": 2, "privacy": 2, "report": 2,
    "round": 3, "rpc": 3,
    "server": 4, "client": 4, "simulation": 4, "audit": 4,
    "config": 5,
    "tool": 6, "examples": 6, "tests": 6, "bench": 6,
}
# Rooms inside model/ that make trainers: nobody below the top may know them. model/torchscript is the parent's side of the trainer
# process and free of LibTorch; model/torch is the child's.
TRAINER_ROOMS = {"model/torch", "model/torchscript"}
TOP = {room for room, level in LEVELS.items() if level == 6}
# Third-party headers that only some rooms may see. tests/<room> may see what its room sees; bench and tests of whole programs see everything.
RESTRICTED = [
    (re.compile(r"(torch|ATen|c10|caffe2)/"), "LibTorch", {"model/torch"}),
    (re.compile(r"(grpc|grpcpp|google/protobuf)/|.*\.pb\.h$"), "gRPC", {"proto", "rpc", "server", "client", "tool"}),
    (re.compile(r"sqlite3\.h$"), "SQLite", {"server"}),
    (re.compile(r"(toml\+\+/|toml\.hpp)"), "toml++", {"config"}),
    (re.compile(r"CLI/"), "CLI11", {"config"} | TOP),
    (re.compile(r"spdlog/"), "spdlog", TOP),
    (re.compile(r"nlohmann/"), "nlohmann-json", {"energy", "report", "rpc", "config"} | TOP),
]
# Its headers are for the rooms that talk gRPC, so they may name gRPC's types.
OPEN_HEADERS = {"rpc"}

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
LINK = re.compile(r"Fedwatt::(\w+)")
SOURCES = {".h", ".cc"}
SKIPPED = {"build", "runs", ".git", ".cache", "testdata"}


def room_of(parts):
    """The room of a path given by its parts, or None."""
    if parts[0] == "model" and len(parts) > 2 and "/".join(parts[:2]) in TRAINER_ROOMS:
        return "/".join(parts[:2])
    return parts[0] if parts[0] in LEVELS else None


def included_room(path):
    """The room whose public header `fedwatt/...` names; "proto" for generated ones."""
    parts = path.split("/")[1:]
    if re.fullmatch(r"v\d+", parts[0]):
        return "proto"
    return room_of(parts)


def arrow(source, target):
    """Why `source` may not use `target`, or None."""
    if source == target or source in ("tests", "bench"):
        return None
    if target in TRAINER_ROOMS:
        if source in TOP or (source, target) == ("model/torch", "model/torchscript"):
            return None
        return f"{source} uses {target}; only {', '.join(sorted(TOP))} may"
    source_level = LEVELS["model" if source in TRAINER_ROOMS else source]
    if source in TRAINER_ROOMS and target == "model":
        return None
    if LEVELS[target] < source_level:
        return None
    return f"{source} (level {source_level}) uses {target} (level {LEVELS[target]}); arrows point down"


def check_sources(root, path, find):
    parts = path.relative_to(root).parts
    room = room_of(parts)
    if room is None:
        return
    room_root = root.joinpath(*room.split("/"))
    public = "include" in parts
    seen_as = None if room == "bench" else room
    if room == "tests":
        seen_as = room_of(parts[1:]) if len(parts) > 2 and room_of(parts[1:] + ("",)) else None
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        if header.startswith("fedwatt/"):
            target = included_room(header)
            if target is None:
                find(path, number, f"{header} is of no room")
            elif target == "proto":
                if not header.endswith(".pb.h"):
                    find(path, number, f"{header} is no generated header")
            elif reason := arrow(room, target):
                find(path, number, reason)
        elif ".." in header.split("/"):
            find(path, number, f"{header} climbs out of its folder")
        elif quote == '"':
            target = room_of(tuple(header.split("/")) + ("",)) if "/" in header else None
            own = (path.parent / header).exists() or (room_root / header).exists()
            if target and not own and room not in ("tests", "bench"):
                find(path, number, f"{header} is private to {target}")
        for pattern, name, rooms in RESTRICTED:
            if pattern.match(header) and seen_as is not None and seen_as not in rooms:
                find(path, number, f"{room} uses {name}; only {', '.join(sorted(rooms))} may")
        if public and room not in OPEN_HEADERS:
            third_party = header.split("/")[0] not in ("absl", "fedwatt", "sys") and ("/" in header or header.endswith(".hpp"))
            if third_party or header.endswith(".pb.h"):
                find(path, number, f"public header includes {header}; only std, absl and fedwatt may show")


def check_cmake(root, path, find):
    room = room_of(path.relative_to(root).parts)
    if room is None:
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for name in LINK.findall(line.split("#")[0]):
            target = "model/" + name[len("model_"):] if name.startswith("model_") else name
            if target in LEVELS or target in TRAINER_ROOMS:
                if reason := arrow(room, target):
                    find(path, number, reason)


def check(root):
    root = pathlib.Path(root)
    findings = []

    def find(path, number, message):
        findings.append(f"{path.relative_to(root)}:{number}: {message}")

    for path in sorted(root.rglob("*")):
        if SKIPPED & set(path.relative_to(root).parts) or not path.is_file():
            continue
        if path.suffix in SOURCES:
            check_sources(root, path, find)
        elif path.name == "CMakeLists.txt":
            check_cmake(root, path, find)
    return findings


def self_test():
    good = {
        "base/include/fedwatt/base/a.h": "#include <vector>\n#include <sys/types.h>\n#include \"absl/status/status.h\"\n",
        "model/include/fedwatt/model/a.h": "#include \"fedwatt/base/a.h\"\n",
        "model/torch/a.cc": "#include <torch/torch.h>\n#include \"fedwatt/model/a.h\"\n#include \"a_private.h\"\n",
        "model/torch/a_private.h": "",
        "model/torch/child.cc": "#include \"fedwatt/model/torchscript/protocol.h\"\n",
        "rpc/include/fedwatt/rpc/a.h": "#include \"grpcpp/grpcpp.h\"\n#include \"fedwatt/v1/plan.pb.h\"\n",
        "tool/main.cc": "#include \"fedwatt/model/torch/a.h\"\n#include \"fedwatt/server/a.h\"\n",
        "tests/round/a_test.cc": "#include \"fedwatt/simulation/a.h\"\n#include \"round/phases/phases.h\"\n",
        "server/CMakeLists.txt": "fedwatt_room(server PUBLIC Fedwatt::round Fedwatt::rpc) # Fedwatt::client\n",
    }
    bad = {
        "upwards": ("base/a.cc", '#include "fedwatt/model/a.h"\n'),
        "sideways": ("data/a.cc", '#include "fedwatt/privacy/a.h"\n'),
        "server and client": ("server/a.cc", '#include "fedwatt/client/a.h"\n'),
        "torch room from server": ("server/a.cc", '#include "fedwatt/model/torch/a.h"\n'),
        "torch room from config": ("config/a.cc", '#include "fedwatt/model/torch/a.h"\n'),
        "child from its parent": ("model/torchscript/a.cc", '#include "fedwatt/model/torch/a.h"\n'),
        "torch header in the parent": ("model/torchscript/a.cc", "#include <torch/script.h>\n"),
        "torch header outside": ("round/a.cc", "#include <torch/torch.h>\n"),
        "torch header in a test of another room": ("tests/round/a_test.cc", "#include <ATen/ATen.h>\n"),
        "proto in round": ("round/a.cc", '#include "fedwatt/v1/plan.pb.h"\n'),
        "grpc in simulation": ("simulation/a.cc", "# include <grpcpp/server.h>\n"),
        "generated header in a public one": ("client/include/fedwatt/client/a.h", '#include "fedwatt/v1/plan.pb.h"\n'),
        "third party in a public header": ("report/include/fedwatt/report/a.h", "#include <nlohmann/json.hpp>\n"),
        "private header of another room": ("server/a.cc", '#include "rpc/certificates.h"\n'),
        "climbing": ("server/a.cc", '#include "../rpc/certificates.h"\n'),
        "unknown room": ("server/a.cc", '#include "fedwatt/cellar/a.h"\n'),
        "logger in a library": ("round/a.cc", "#include <spdlog/spdlog.h>\n"),
        "cmake upwards": ("round/CMakeLists.txt", "fedwatt_room(round PUBLIC Fedwatt::server)\n"),
        "cmake torch": ("client/CMakeLists.txt", "fedwatt_room(client\n  PRIVATE Fedwatt::model_torch)\n"),
    }

    def run(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(folder)

    failures = [f"allowed, but found: {finding}" for finding in run(good)]
    failures += [f"not found: {name}" for name, (path, text) in bad.items() if not run({path: text})]
    return failures


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    findings = self_test() if sys.argv[1] == "--self-test" else check(sys.argv[1])
    print("\n".join(findings) or "ok")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
