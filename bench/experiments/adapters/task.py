"""Fashion-MNIST from another camera, as a task for a network that knows the first: task.py FOLDER OUT writes the four IDX files with pictures moved by four pixels each way, mirrored and at half the contrast."""
import gzip
import pathlib
import sys

source, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
MOVED = 4


def picture(pixels, rows, columns):
    line = [pixels[row * columns:(row + 1) * columns][::-1] for row in range(rows - MOVED)]
    return bytes(MOVED * columns) + b"".join(bytes(MOVED) + bytes(pixel // 2 for pixel in row[:columns - MOVED]) for row in line)


for path in sorted(source.glob("*-ubyte.gz")) or sorted(source.glob("*-ubyte")):
    data = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    if "images" in path.name:
        rows, columns = int.from_bytes(data[8:12], "big"), int.from_bytes(data[12:16], "big")
        data = data[:16] + b"".join(picture(data[at:at + rows * columns], rows, columns) for at in range(16, len(data), rows * columns))
    (out / path.name.removesuffix(".gz")).write_bytes(data)
