#!/usr/bin/env python3
"""Checks that no test is silently out of use: disabled or commented out without an issue number (#12), or built by nobody.

usage: check_tests.py FOLDER_OF_TESTS | --self-test
Exit 1 with one line `file:line: message` a finding. The number stands on the line itself or in the comment right above.
"""
import pathlib
import re
import sys
import tempfile

ISSUE = re.compile(r"#\d+")
OUT_OF_USE = [
    (re.compile(r"\bDISABLED_\w|\bDISABLED\s+(TRUE|ON|1)\b"), "disabled test"),
    (re.compile(r"^\s*(//|/?\*|#)\s*(TEST|TEST_F|TEST_P|TYPED_TEST|TYPED_TEST_P|INSTANTIATE_TEST_SUITE_P)\s*\("), "commented-out test"),
    (re.compile(r"^\s*#\s*(fedwatt_test|add_test|add_subdirectory)\s*\((?!<)"), "commented-out test"),
    (re.compile(r"^\s*#\s*if\s+(0|false)\b"), "code compiled out"),
    (re.compile(r"^\s*#\s*\w+_test\.cc\b"), "commented-out test file"),
]


def check(folder):
    root = pathlib.Path(folder)
    findings = []
    for path in sorted(root.rglob("*")):
        if not (path.suffix in (".cc", ".h", ".cmake") or path.name == "CMakeLists.txt"):
            continue
        lines = path.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            for pattern, what in OUT_OF_USE:
                if not pattern.search(line):
                    continue
                above = lines[number - 2].strip() if number > 1 else ""
                if not ISSUE.search(line) and not (above.startswith(("//", "#")) and ISSUE.search(above)):
                    findings.append(f"{path.relative_to(root)}:{number}: {what} without an issue number")
        if path.name.endswith("_test.cc"):
            # The nearest list above the file names it.
            lists = [parent / "CMakeLists.txt" for parent in path.parents if (parent / "CMakeLists.txt").exists()]
            text = re.sub(r"#.*", "", lists[0].read_text()) if lists else ""
            if not re.search(rf"(^|[\s/(]){re.escape(path.name)}\b", text):
                findings.append(f"{path.relative_to(root)}:1: named in no CMakeLists.txt, so it never runs")
    return findings


def self_test():
    good = {
        "a/CMakeLists.txt": "fedwatt_test(a_test SOURCES a_test.cc b_test.cc)\n# Only with LibTorch.\n",
        "a/a_test.cc": "// Disabled on old kernels, #12\nTEST(A, DISABLED_Later) {}\n// TEST doubles are in testing/.\n#if 1\n#endif\n",
        "a/b_test.cc": "TEST(A, DISABLED_Now) {}  // #7\n",
    }
    listed = {"a/CMakeLists.txt": "fedwatt_test(a_test SOURCES a_test.cc)\n"}
    bad = {
        "disabled": listed | {"a/a_test.cc": "TEST(A, DISABLED_Later) {}\n"},
        "commented out": listed | {"a/a_test.cc": "// TEST(A, Works) {}\n"},
        "inside a block comment": listed | {"a/a_test.cc": "/*\n * TEST_F(A, Works) {}\n */\n"},
        "compiled out": listed | {"a/a_test.cc": "#if 0\nTEST(A, Works) {}\n#endif\n"},
        "disabled in cmake": {"a/CMakeLists.txt": "set_tests_properties(a PROPERTIES DISABLED TRUE)\n"},
        "commented out in cmake": {"a/CMakeLists.txt": "# add_test(NAME a COMMAND a)\n"},
        "never built": {"a/CMakeLists.txt": "fedwatt_test(a_test SOURCES b_test.cc)\n", "a/b_test.cc": "", "a/a_test.cc": ""},
        "file commented out": {"a/CMakeLists.txt": "fedwatt_test(a_test SOURCES\n  # a_test.cc\n  b_test.cc)\n", "a/b_test.cc": "",
                               "a/a_test.cc": ""},
    }

    def run(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(folder)

    failures = [f"allowed, but found: {finding}" for finding in run(good)]
    failures += [f"not found: {name}" for name, files in bad.items() if not run(files)]
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
