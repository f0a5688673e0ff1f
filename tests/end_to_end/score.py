"""Prints the accuracy of a TorchScript model on Fashion-MNIST's test part, computed by Python alone. Usage: score.py MODEL; run by Debian's Python."""

import gzip
import sys

import torch

DATA = "/usr/share/datasets/fashion-mnist"


def read(name, header):
    with gzip.open(f"{DATA}/{name}") as file:
        return torch.frombuffer(bytearray(file.read()[header:]), dtype=torch.uint8)


images = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).float() / 255
labels = read("t10k-labels-idx1-ubyte.gz", 8).long()
model = torch.jit.load(sys.argv[1])
with torch.no_grad():
    right = sum((model(images[i:i + 1000]).argmax(1) == labels[i:i + 1000]).sum().item() for i in range(0, len(images), 1000))
print(right / len(images))
