"""Writes torchvision's networks as TorchScript archives, with random weights: scripted_models.py FOLDER NAME..."""
import sys
import warnings

warnings.filterwarnings("ignore")
import torch
import torchvision

folder, names = sys.argv[1], sys.argv[2:]
for name in names:
    torch.manual_seed(1)
    network = getattr(torchvision.models, name)(num_classes=10)
    if name == "vgg11":  # 120 of its 130 million parameters lie in two dense layers of no other shape
        network.classifier[0] = torch.nn.Linear(512 * 49, 64)
        network.classifier[3] = torch.nn.Linear(64, 64)
        network.classifier[6] = torch.nn.Linear(64, 10)
    torch.jit.script(network).save(f"{folder}/{name}.pt")
