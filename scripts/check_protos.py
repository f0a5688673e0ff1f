#!/usr/bin/env python3
"""Checks the proto rules of CONTRIBUTING: comments, units in names, no unsigned integers, enums that start with UNSPECIFIED, request ids.

usage: check_protos.py FOLDER | --self-test
Exit 1 with one line `file:line: message` a finding.
"""
import pathlib
import re
import sys

DECLARATION = re.compile(r"^(service|rpc|message|enum|oneof)\s+(\w+)")
FIELD = re.compile(r"^(optional\s+|repeated\s+)?(map<[^>]+>|[\w.]+)\s+(\w+)\s*=\s*\d+\s*[;\[]")
VALUE = re.compile(r"^([A-Z][A-Z0-9_]*)\s*=\s*\d+\s*[;\[]")
# Calls that change something and so must carry request_id; Upload is repeatable by (attempt, offset).
STATE_CHANGING = {"Enrol", "CheckIn", "Report", "ReportEvaluation", "StopRun", "IssueToken"}
NUMBER_SUFFIX = {"energy": "_uj", "power": "_w"}


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def check(text, name):
    findings = []
    stack = []  # [kind, name, values seen, field names]
    requests = {}  # request message -> its fields
    calls = {}  # rpc -> request message
    commented = False

    def find(line, message):
        findings.append(f"{name}:{line}: {message}")

    if not text.startswith("//"):
        find(1, "file has no comment at its head")
    if not re.search(r"^package fedwatt\.v\d+;", text, re.M):
        find(1, "package is not fedwatt.v<N>")
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("//"):
            commented = True
            continue
        if not line:
            commented = False
            continue
        if line.startswith("}"):
            if stack:
                stack.pop()
            commented = False
            continue
        declaration = DECLARATION.match(line)
        kind = stack[-1][0] if stack else ""
        if declaration:
            what, which = declaration.groups()
            if not commented:
                find(number, f"{what} {which} has no comment")
            if what == "rpc":
                request = re.search(r"\(\s*(?:stream\s+)?(\w+)\s*\)", line)
                if request:
                    calls[which] = (request.group(1), number)
            if what == "message":
                requests[which] = set()
            if line.endswith("{"):
                stack.append([what, which, 0])
        elif kind == "enum" and (value := VALUE.match(line)):
            prefix = snake(stack[-1][1])
            if not commented:
                find(number, f"value {value.group(1)} has no comment")
            if not value.group(1).startswith(prefix + "_"):
                find(number, f"value {value.group(1)} does not start with {prefix}_")
            if stack[-1][2] == 0 and value.group(1) != prefix + "_UNSPECIFIED":
                find(number, f"first value of {stack[-1][1]} is not {prefix}_UNSPECIFIED")
            stack[-1][2] += 1
        elif kind in ("message", "oneof") and (field := FIELD.match(line)):
            kind_of, field_name = field.group(2), field.group(3)
            message = next(entry[1] for entry in reversed(stack) if entry[0] == "message")
            requests[message].add(field_name)
            if not commented:
                find(number, f"field {message}.{field_name} has no comment")
            if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field_name):
                find(number, f"field {field_name} is not snake_case")
            unsigned = re.search(r"\b(uint32|uint64|fixed32|fixed64)\b", kind_of)
            if unsigned:
                find(number, f"field {field_name} is {unsigned.group(1)}; use a signed integer")
            if kind_of.endswith("protobuf.Duration") and not field_name.endswith("_duration"):
                find(number, f"Duration {field_name} is not named ..._duration")
            if kind_of.endswith("protobuf.Timestamp") and not field_name.endswith("_time"):
                find(number, f"Timestamp {field_name} is not named ..._time")
            if kind_of in ("int32", "int64", "double"):
                for word, suffix in NUMBER_SUFFIX.items():
                    if word in field_name.split("_") and not field_name.endswith(suffix):
                        find(number, f"field {field_name} has no unit; end it with {suffix}")
                if re.search(r"_(seconds|ms|millis|minutes|secs?)$", field_name):
                    find(number, f"field {field_name} is a bare time; use Duration")
        elif line.startswith(("syntax", "package", "import", "option", "reserved", "returns")):
            pass
        elif stack or "{" in line:
            find(number, f"not understood: {line}")
        commented = False
    for call, (request, number) in calls.items():
        if call in STATE_CHANGING and "request_id" not in requests.get(request, set()):
            find(number, f"{call} changes state, but {request} carries no request_id")
    return findings


GOOD = """// A file.
syntax = "proto3";
package fedwatt.v1;
// Serves.
service S {
  // Stops.
  rpc StopRun(StopRunRequest) returns (Answer);
}
// Asks.
message StopRunRequest {
  // Unique.
  string request_id = 1;
  // Joules.
  optional int64 energy_uj = 2;
  // Span.
  google.protobuf.Duration wait_duration = 3;
  // One of them.
  oneof which {
    // A.
    bool a = 4;
  }
}
// Answers.
message Answer {}
// Kinds.
enum RunKind {
  // None.
  RUN_KIND_UNSPECIFIED = 0;
}
"""


def self_test():
    """Each rule, broken once, must be found, and nothing in the good file."""
    failures = [] if not check(GOOD, "good") else [f"good file: {check(GOOD, 'good')}"]
    for old, new, expected in [
        ("// A file.\n", "", "no comment at its head"),
        ("fedwatt.v1", "other", "package"),
        ("  // Stops.\n", "", "rpc StopRun has no comment"),
        ("// Asks.\n", "", "message StopRunRequest has no comment"),
        ("  // Unique.\n", "", "field StopRunRequest.request_id has no comment"),
        ("    // A.\n", "", "field StopRunRequest.a has no comment"),
        ("  // None.\n", "", "value RUN_KIND_UNSPECIFIED has no comment"),
        ("int64 energy_uj", "uint64 energy_uj", "signed"),
        ("energy_uj", "energy", "no unit"),
        ("wait_duration", "wait", "_duration"),
        ("google.protobuf.Duration wait_duration", "int64 wait_seconds", "bare time"),
        ("string request_id", "string id", "carries no request_id"),
        ("RUN_KIND_UNSPECIFIED", "RUN_KIND_NONE", "is not RUN_KIND_UNSPECIFIED"),
        ("bool a", "bool aB", "snake_case"),
    ]:
        found = check(GOOD.replace(old, new), "bad")
        if not any(expected in finding for finding in found):
            failures.append(f"{old!r} -> {new!r}: expected a finding with {expected!r}, got {found}")
    return failures


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.argv[1] == "--self-test":
        findings = self_test()
    else:
        files = sorted(pathlib.Path(sys.argv[1]).rglob("*.proto"))
        findings = [] if files else [f"{sys.argv[1]}: no proto files"]
        for path in files:
            findings += check(path.read_text(), str(path))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
