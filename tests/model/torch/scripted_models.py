"""Writes torchvision's networks as TorchScript archives, with random weights: scripted_models.py FOLDER [--gray] [--no-dropout] NAME..."""
import sys
import warnings

warnings.filterwarnings("ignore")
import torch
import torchvision

folder, flags = sys.argv[1], [word for word in sys.argv[2:] if word.startswith("--")]
gray = "--gray" in flags  # pictures of one colour, as Fashion-MNIST's
for name in [word for word in sys.argv[2:] if word not in flags]:
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
    if "--no-dropout" in flags:  # which draws for each value that is there, and so for others in a narrower copy
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    torch.jit.script(network).save(f"{folder}/{name}.pt")
