#!/usr/bin/env python3
"""Checks that every test that docs/promises.md names exists.

usage: check_promises.py REPOSITORY | --self-test
Exit 1 with one line `file:line: message` a finding.
"""
import pathlib
import re
import sys
import tempfile

PROMISE = re.compile(r"^\|\s*(P\d+)\s*\|")
NAMED = re.compile(r"`(\w+)\.(\w+)`|`(test_\w+)`")
CASE = re.compile(r"\bTEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)")
METHOD = re.compile(r"^\s*def (test_\w+)\(", re.M)


def tests_in(folder):
    names = set()
    for path in sorted(folder.rglob("*_test.cc")):
        names |= {".".join(case) for case in CASE.findall(path.read_text(errors="replace"))}
    for path in sorted(folder.rglob("*_test.py")):
        names |= set(METHOD.findall(path.read_text(errors="replace")))
    return names


def check(repository):
    root = pathlib.Path(repository)
    page = root / "docs" / "promises.md"
    tests = tests_in(root / "tests")
    findings, promises = [], 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        promise = PROMISE.match(line)
        if not promise:
            continue
        promises += 1
        named = [f"{suite}.{case}" if suite else method for suite, case, method in NAMED.findall(line)]
        if not named:
            findings.append(f"{page}:{number}: {promise.group(1)} names no test")
        findings += [f"{page}:{number}: {promise.group(1)} names {name}, which does not exist" for name in named if name not in tests]
    if promises == 0:
        findings.append(f"{page}: no promises")
    return findings


def self_test():
    """A page whose tests are there is fine; one that lacks a test, or a promise that names none, is found."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "docs").mkdir()
        (root / "tests").mkdir()
        (root / "tests" / "a_test.cc").write_text("TEST_F(ATest, Holds) {}\n")
        (root / "tests" / "b_test.py").write_text("class B:\n    def test_it_holds(self):\n        pass\n")
        for row, expected in [
            ("| P1 | Good | `ATest.Holds`, `test_it_holds` |", None),
            ("| P1 | Gone | `ATest.Held` |", "names ATest.Held, which does not exist"),
            ("| P1 | Gone | `test_it_held` |", "names test_it_held, which does not exist"),
            ("| P1 | Nobody | none |", "names no test"),
            ("Nothing.", "no promises"),
        ]:
            (root / "docs" / "promises.md").write_text(row + "\n")
            found = check(root)
            if (expected is None and found) or (expected and not any(expected in finding for finding in found)):
                failures.append(f"{row!r}: expected {expected!r}, got {found}")
    return failures


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    findings = self_test() if sys.argv[1] == "--self-test" else check(sys.argv[1])
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
