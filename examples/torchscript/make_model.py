#!/usr/bin/python3
"""Scripts the twin of the built-in mlp_2nn, to be trained by model.torchscript.

Any module will do whose forward takes [batch, *model.input_shape] float32 (int64 for tokens) and gives [batch, classes] float32.
Needs Debian's python3-torch; Python is not needed again until the trained archive is used.
"""
import argparse

import torch
from torch import nn


class Mlp2nn(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 200)
        self.fc2 = nn.Linear(200, 200)
        self.fc3 = nn.Linear(200, 10)

    def forward(self, x):
        x = torch.flatten(x, 1)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="mlp_2nn.pt", help="where to write the archive (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the initial weights (default: %(default)s)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = torch.jit.script(Mlp2nn())
    model.save(arguments.out)
    print(f"wrote {arguments.out}: {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
