#!/usr/bin/env python3
"""Tables of what compression_bench printed.

    table.py RESULTS.jsonl

One table a vector: rate, distortion, speed. Then one of the entropy coder against the zero-order entropy of its symbols and against zstd and xz on
the same symbols as bytes; xz is run here, on the files that --symbols kept.
"""
import json
import lzma
import os
import sys


def speed(line, name):
    return f"{line[name + '_gvalues_s']:7.3f} ±{50 * line[name + '_spread']:3.0f}%"


def main():
    with open(sys.argv[1]) as file:
        machine, *lines = [json.loads(text) for text in file]
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    coded = []
    for source in dict.fromkeys(line["source"] for line in lines):
        measured = [line for line in lines if line["source"] == source and "skipped" not in line]
        if not measured:
            continue
        streams = sorted(line["stream_gvalues_s"] for line in measured)
        print(f"\n{source}: {measured[0]['values']} values; sums[i] += constant on as many int64: {streams[len(streams) // 2]:.2f} G values/s "
              f"({streams[0]:.2f} to {streams[-1]:.2f})")
        print(f"{'':38} {'bits/':>8} {'':>9} {'G values/s, median ± half the quartiles distance':>52} {'share of stream':>17}")
        print(f"{'pipeline':38} {'value':>8} {'nmse':>9} {'encode':>13} {'decode':>13} {'accumulate':>13} {'fold':>13} "
              f"{'accum.':>8} {'fold':>8}")
        for line in measured:
            print(f"{line['pipeline']:38} {line['bits_per_value']:8.4f} {line['nmse']:9.2e} {speed(line, 'encode'):>13} {speed(line, 'decode'):>13} "
                  f"{speed(line, 'accumulate'):>13} {speed(line, 'fold'):>13} {line['accumulate_of_stream']:8.2f} {line['fold_of_stream']:8.2f}")
            if "coded_bytes" in line:
                coded.append(line)

    if coded:
        print(f"\nSymbols of ecsq; sizes over the coded size\n{'':24} {'':16} {'not':>7} {'entropy,':>9} {'coded':>9} {'coded /':>8} {'zstd -1':>8} "
              f"{'zstd -19':>8} {'xz -6':>8} {'':>8}")
        print(f"{'source':24} {'pipeline':16} {'zero':>7} {'bits':>9} {'bytes':>9} {'entropy':>8} {'/ coded':>8} {'/ coded':>8} {'/ coded':>8} "
              f"{'clamped':>8}")
    for line in coded:
        xz = "-"
        if os.path.exists(line.get("symbols_file", "")):
            with open(line["symbols_file"], "rb") as file:
                xz = f"{len(lzma.compress(file.read(), preset=6)) / line['coded_bytes']:.3f}"
        over = "-" if line["coded_over_entropy"] is None else f"{line['coded_over_entropy']:.4f}"
        print(f"{line['source']:24} {line['pipeline']:16} {line['nonzero_fraction']:7.4f} {line['entropy_bits_per_value']:9.4f} "
              f"{line['coded_bytes']:9d} {over:>8} "
              f"{line['zstd_1_bytes'] / line['coded_bytes']:8.3f} {line['zstd_19_bytes'] / line['coded_bytes']:8.3f} {xz:>8} "
              f"{line['symbols_clamped']:8d}")

    skipped = {line["pipeline"]: line["skipped"] for line in lines if "skipped" in line}
    if skipped:
        print("\nSkipped: " + "\n         ".join(f"{pipeline}: {reason}" for pipeline, reason in skipped.items()))


if __name__ == "__main__":
    main()
