"""Train the video classifier that FVD uses on the shapes world: `python train/shapes_classifier.py [FOLDER]`."""

import sys
from pathlib import Path

import torch

from cogstyle.shapes_report.classifier import train_classifier

torch.set_num_threads(1)
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pretrained_adapters/shapes_classifier")
print(train_classifier(folder, progress=lambda text: print(text, flush=True)))
