"""Writes torchvision's networks as TorchScript archives, with random weights: scripted_models.py FOLDER [--gray] NAME..."""
import sys
import warnings

warnings.filterwarnings("ignore")
import torch
import torchvision

folder, names = sys.argv[1], sys.argv[2:]
gray = "--gray" in names  # pictures of one colour, as Fashion-MNIST's
for name in names:
    if name == "--gray":
        continue
    torch.manual_seed(1)
    network = getattr(torchvision.models, name)(num_classes=10)
    if gray and name == "resnet18":
        network.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    if gray and name == "mobilenet_v2":
        network.features[0][0] = torch.nn.Conv2d(1, 32, 3, 2, 1, bias=False)
    if name == "vgg11":  # 120 of its 130 million parameters lie in two dense layers of no other shape
        network.classifier[0] = torch.nn.Linear(512 * 49, 64)
        network.classifier[3] = torch.nn.Linear(64, 64)
        network.classifier[6] = torch.nn.Linear(64, 10)
    torch.jit.script(network).save(f"{folder}/{name}.pt")
