#!/usr/bin/env python3
"""Checks by their symbols that libraries neither print, nor read the terminal, nor end the process.

usage: check_symbols.py ARCHIVE... | --self-test COMPILER
Exit 1 with one line `archive: object: symbol` a finding.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

FORBIDDEN = re.compile(
    r"(_?_?v?printf(_chk)?|puts|putchar|perror|stdout|stderr|stdin"  # printf also as gcc's puts and __printf_chk
    r"|std::(cout|cerr|clog|cin)(\[abi:\w+\])?"
    r"|_?exit|_Exit|quick_exit|abort|system|popen|daemon)(@.*)?$")
# (room, object, symbol); None stands for any object.
ALLOWED = {
    ("base", "status_macros.cc.o", "stderr"), ("base", "status_macros.cc.o", "abort"),  # a broken invariant says so and aborts
    ("config", "program.cc.o", "std::cerr"),  # how every main ends
    ("rpc", None, "abort"), ("server", None, "abort"), ("client", None, "abort"),  # inline code of gRPC's headers
}


def check(archives):
    findings = []
    for archive in archives:
        if not pathlib.Path(archive).exists():
            findings.append(f"{archive}: not built; build everything first")
            continue
        room = re.sub(r"^lib(fedwatt_)?|\.a$", "", pathlib.Path(archive).name)
        listing = subprocess.run(["nm", "--undefined-only", "--demangle", archive], capture_output=True, text=True, check=True).stdout
        member = "?"
        for line in listing.splitlines():
            if line.endswith(":"):
                member = line[:-1]
                continue
            symbol = line.strip().split(" ", 1)[-1]
            name = symbol.split("@")[0]
            if FORBIDDEN.match(symbol) and not {(room, member, name), (room, None, name)} & ALLOWED:
                findings.append(f"{archive}: {member}: {symbol}")
    return findings


def self_test(compiler):
    good = "#include <string>\n#include <cstdio>\nint f(char* b) { return std::snprintf(b, 4, \"%d\", 7); }\n"
    bad = {
        "printf": "#include <cstdio>\nvoid f(int i) { std::printf(\"%d\", i); }\n",
        "puts": "#include <cstdio>\nvoid f() { std::printf(\"a\\n\"); }\n",
        "fprintf to stderr": "#include <cstdio>\nvoid f(int i) { std::fprintf(stderr, \"%d\", i); }\n",
        "cout": "#include <iostream>\nvoid f() { std::cout << 1; }\n",
        "exit": "#include <cstdlib>\nvoid f() { std::exit(1); }\n",
        "_exit": "#include <unistd.h>\nvoid f() { _exit(1); }\n",
        "abort": "#include <cstdlib>\nvoid f() { std::abort(); }\n",
        "system": "#include <cstdlib>\nint f() { return std::system(\"true\"); }\n",
    }

    def run(text):
        with tempfile.TemporaryDirectory() as folder:
            source, archive = pathlib.Path(folder, "a.cc"), pathlib.Path(folder, "libfedwatt_round.a")
            source.write_text(text)
            subprocess.run([compiler, "-O2", "-c", source, "-o", source.with_suffix(".o")], check=True)
            subprocess.run(["ar", "rcs", archive, source.with_suffix(".o")], check=True)
            return check([archive])

    failures = [f"allowed, but found: {finding}" for finding in run(good)]
    failures += [f"not found: {name}" for name, text in bad.items() if not run(text)]
    return failures


def main():
    if len(sys.argv) < 2 or (sys.argv[1] == "--self-test" and len(sys.argv) != 3):
        print(__doc__, file=sys.stderr)
        return 2
    findings = self_test(sys.argv[2]) if sys.argv[1] == "--self-test" else check(sys.argv[1:])
    print("\n".join(findings) or "ok")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
