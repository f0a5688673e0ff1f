"""Fashion-MNIST upside down and inverted, as another task for a network that knows it upright: task.py FOLDER OUT writes the four IDX files."""
import gzip
import pathlib
import sys

source, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
for path in sorted(source.glob("*-ubyte.gz")) or sorted(source.glob("*-ubyte")):
    data = bytearray(gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes())
    if "images" in path.name:
        size = int.from_bytes(data[8:12], "big") * int.from_bytes(data[12:16], "big")
        # A turn by 180 degrees is the reverse order of a picture's pixels.
        data = data[:16] + bytes(255 - pixel for at in range(16, len(data), size) for pixel in reversed(data[at:at + size]))
    (out / path.name.removesuffix(".gz")).write_bytes(data)
