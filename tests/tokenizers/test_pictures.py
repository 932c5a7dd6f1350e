"""The shipped tokenizer of pictures: small, without a model, and good for more than flat shapes."""

import cv2
import numpy as np
import torch

from cogstyle.bundle import Bundle
from cogstyle.training.tokenizer import to_arrays, to_tensor
from cogstyle.video import psnr


def test_the_shipped_tokenizer_codes_pictures():
    bundle = Bundle("pictures")
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 12_000_000
    assert not bundle.has_model and bundle.cluster_labels().unique().numel() == bundle.tokenizer_config.clusters
    noise = np.random.default_rng(0).normal(128, 300, (4, 96, 128, 3))
    smooth = [cv2.GaussianBlur(picture, (0, 0), 9) for picture in noise]
    pictures = np.stack([(picture + 0.05 * grain).clip(0, 255) for picture, grain in zip(smooth, noise, strict=True)])
    pictures = pictures.astype(np.uint8)
    cv2.circle(pictures[0], (70, 40), 20, (200, 60, 40), -1, cv2.LINE_AA)
    vqvae = bundle.vqvae()
    ids = vqvae.encode(to_tensor(pictures))
    assert ids.shape == (4, 12 * 16) and len(torch.unique(ids)) > 100
    assert psnr(to_arrays(vqvae.decode(ids, width=16)), pictures) > 22.0
