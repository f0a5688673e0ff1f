#!/usr/bin/env python3
"""Writes the golden files beside it, from the documents alone: an independent second implementation of docs/container.md and of the codecs.

Run it and look at `git diff`: a changed file means changed bytes on the wire, which need a new version or a new name.
"""
import hashlib
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
MASK = (1 << 64) - 1
PARAMETER, AVERAGED, LOCAL = 1, 2, 3
FLOAT32, INT64 = 1, 2
ENTRIES = [("fc.weight", (2, 3), PARAMETER, FLOAT32), ("bn.running_mean", (2,), AVERAGED, FLOAT32),
           ("bn.num_batches_tracked", (), LOCAL, INT64), ("fc.bias", (2,), PARAMETER, FLOAT32)]
MODEL_VALUES = [0.5, -1.25, 3.0, 0.0, 0.1, -0.1, 1000.0, 1e-40, -2.75, 0.25]
CODEC_VALUES = [((i * 37) % 101 - 50) / 64 for i in range(300)]
SEED = 42


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def floats(values):
    return b"".join(struct.pack("<f", value) for value in values)


def entry_bytes(name, shape, kind, dtype):
    return struct.pack("<I", len(name)) + name.encode() + bytes([dtype, kind, len(shape)]) + b"".join(struct.pack("<Q", d) for d in shape)


def layout_bytes():
    return b"".join(entry_bytes(*entry) for entry in ENTRIES)


def layout_digest():
    return hashlib.sha256(layout_bytes()).digest()


def model_digest():
    stream, offset = b"", 0
    for name, shape, kind, dtype in ENTRIES:
        if kind == LOCAL:
            continue
        count = 1
        for dimension in shape:
            count *= dimension
        stream += struct.pack("<I", len(name)) + name.encode() + bytes([dtype, len(shape)]) + b"".join(struct.pack("<Q", d) for d in shape)
        stream += floats(MODEL_VALUES[offset:offset + count])
        offset += count
    return hashlib.sha256(stream).digest()


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def container(kind, codec, payload):
    if kind == 1:
        fields = layout_digest() + struct.pack("<H", len(codec)) + codec.encode() + struct.pack("<I", len(ENTRIES)) + layout_bytes()
    else:
        fields = layout_digest()[:4] + crc32c(codec.encode())[:2]
    data = b"\x89FWT" + bytes([2, kind]) + varint(len(fields) + len(payload)) + fields + payload
    return data + crc32c(data)


def xoshiro(seed):
    state = []
    for _ in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        state.append(z ^ (z >> 31))
    rotl = lambda x, k: ((x << k) | (x >> (64 - k))) & MASK
    while True:
        yield (rotl((state[1] * 5) & MASK, 7) * 9) & MASK
        t = (state[1] << 17) & MASK
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= t
        state[3] = rotl(state[3], 45)


def random_words(seed, lanes=16):
    """What int8, int4 and int2 round with: rows of one word of each generator, xoshiro128++."""
    source, words = xoshiro(seed), []
    for _ in range(2 * lanes):
        word = next(source)
        words += [word & 0xFFFFFFFF, word >> 32]
    states = [[words[part * lanes + lane] for part in range(4)] for lane in range(lanes)]
    rotl = lambda x, k: ((x << k) | (x >> (32 - k))) & 0xFFFFFFFF
    while True:
        row = []
        for s in states:
            row.append((rotl((s[0] + s[3]) & 0xFFFFFFFF, 7) + s[0]) & 0xFFFFFFFF)
            t = (s[1] << 9) & 0xFFFFFFFF
            s[2] ^= s[0]
            s[3] ^= s[1]
            s[1] ^= s[2]
            s[0] ^= s[3]
            s[2] ^= t
            s[3] = rotl(s[3], 11)
        yield row


def bfloat16(values):
    out = b""
    for value in values:
        bits = struct.unpack("<I", struct.pack("<f", value))[0]
        upper, lower = bits >> 16, bits & 0xFFFF
        if lower > 0x8000 or (lower == 0x8000 and upper & 1):
            upper += 1
        out += struct.pack("<H", upper)
    return out


def stochastic_uniform(values, bits, block=256):
    random, scales, codes, levels = random_words(SEED), b"", [], 2 ** (bits - 1) - 1
    for begin in range(0, len(values), block):
        part = values[begin:begin + block]
        most = max(abs(v) for v in part)
        scale = f32(most / levels)
        if scale * levels < most:
            scale = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", scale))[0] + 1))[0]
        scales += struct.pack("<f", scale)
        inverse = 1.0 / scale
        for i, value in enumerate(part):
            row = next(random) if i % 16 == 0 else row
            u = (row[i % 16] + 0.5) / 2 ** 32
            codes.append(max(-levels, min(levels, int(value * inverse + (128 + u)) - 128)))
    codes += [-levels - 1] * (-len(codes) % (8 // bits))
    number = sum((code % 2 ** bits) << (i * bits) for i, code in enumerate(codes))
    return scales + number.to_bytes(len(codes) * bits // 8, "little")


def sign(values):
    lanes = [sum(abs(value) for value in values[lane::8]) for lane in range(8)]
    bits = sum((value < 0) << i for i, value in enumerate(values)) | 1 << len(values)
    return struct.pack("<f", sum(lanes) / len(values)) + bits.to_bytes(len(values) // 8 + 1, "little")


def write(name, data):
    digits = data.hex()
    (HERE / name).write_text("\n".join(digits[i:i + 96] for i in range(0, len(digits), 96)) + "\n")


write("layout_digest.hex", layout_digest())
write("model_digest.hex", model_digest())
write("container_model.hex", container(1, "float32", floats(MODEL_VALUES)))
write("container_update.hex", container(2, "float32", floats(MODEL_VALUES)))
write("codec_float32.hex", floats(CODEC_VALUES))
write("codec_bfloat16.hex", bfloat16(CODEC_VALUES))
for bits in (8, 4, 2):
    write(f"codec_int{bits}.hex", stochastic_uniform(CODEC_VALUES, bits))
write("codec_sign.hex", sign(CODEC_VALUES))
# codec_dithered.hex, codec_ecsq.hex and codec_ternary.hex hold what the C++ code wrote when they were pinned: their entropy coder has a second
# implementation in tests/compression/symbol_coder_test.cc instead.
