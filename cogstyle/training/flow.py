"""Training a flow-matching decoder on clips, beside a frozen image tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.bundle import Bundle, WeightFile, update_bundle
from cogstyle.config import FlowConfig, require
from cogstyle.tokenizers.flow import LEAST_TIME, Condition, FlowDecoder, decode_clip
from cogstyle.tokenizers.vqvae import VQVAE, to_float
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.sources import Pictures
from cogstyle.training.tokenizer import has_bfloat16
from cogstyle.video import psnr

DAMAGE = 0.08  # the most of a clip's codes that are drawn anew among their neighbours: sampled codes are not all right
UNIFORM = 0.1  # share of the times drawn evenly; the others are sigmoids of normal draws
SHOWN, STEPS = 12, 4  # held-back clips, and the steps that they are decoded in besides 1


class FlowJob:
    """Squared error of the velocity, noise - pixels, at a random time between pixels (0) and noise (1).

    Args:
        source: the bundle that has the image tokenizer, and is written.
        pictures: gives the clips; None: an export alone.
        from_noise: share of the clips at time 1, where one step decodes; 1: a regression, which is the same network
            and knows nothing else.
    """

    def __init__(
        self, config: FlowConfig, source: Bundle, pictures: Pictures | None, *, batch: int, seed: int, from_noise: float
    ) -> None:
        self.config, self.source, self.batch, self.seed, self.from_noise = config, source, batch, seed, from_noise
        torch.manual_seed(seed)
        vqvae = source.vqvae()
        require(isinstance(vqvae, VQVAE), "a flow decoder stands on a tokenizer of kind vqvae")
        assert isinstance(vqvae, VQVAE)
        self.vqvae, self.labels_V = vqvae, source.cluster_labels()
        self.flow = FlowDecoder(config, vqvae.config)
        self.module: nn.Module = self.flow
        self.base: nn.Module | None = self.vqvae
        self.device = torch.device("cpu")
        if pictures is not None:
            self.pictures = pictures
            self.shown = pictures.moving(np.random.default_rng(seed), SHOWN, config.frames, held_back=True)

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights of this task."""
        load_weights(self.flow, tensors)

    def trained(self) -> list[nn.Parameter]:
        return list(self.flow.parameters())

    def _clips(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.pictures.moving(np.random.default_rng([self.seed, step]), self.batch, self.config.frames)

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        clips_BFHWC, rate_B = map(share.of, self._clips(step))
        images_BFCHW = torch.from_numpy(clips_BFHWC).permute(0, 1, 4, 2, 3).to(self.device)
        with torch.no_grad():
            ids_BFL = self.vqvae.encode(images_BFCHW.flatten(0, 1)).unflatten(0, images_BFCHW.shape[:2])
            condition = self._condition(self._damaged(ids_BFL), rate_B)
        x_BFLC = condition.patches(to_float(images_BFCHW))
        t_B = self._times(len(x_BFLC))
        at_B111 = t_B[:, None, None, None]
        noisy_BFLC = torch.lerp(x_BFLC, torch.randn_like(x_BFLC), at_B111)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            clean_BFLC = self.flow(noisy_BFLC, t_B, condition)
        squared_B = (clean_BFLC.float() - x_BFLC).square().mean((1, 2, 3))
        velocity = (squared_B / t_B.clamp(min=LEAST_TIME).square()).mean()
        return velocity, {"error": squared_B.mean().item()}

    def _condition(self, ids_BFL: Tensor, rate_B: np.ndarray) -> Condition:
        return Condition(self.vqvae, ids_BFL, torch.from_numpy(rate_B).float().to(self.device))

    def _times(self, count: int) -> Tensor:
        kind_B = torch.rand(count)
        even = kind_B < self.from_noise + UNIFORM
        t_B = torch.where(even, torch.rand(count), torch.randn(count).sigmoid())
        return torch.where(kind_B < self.from_noise, 1.0, t_B).to(self.device)

    def _damaged(self, ids_BFL: Tensor) -> Tensor:
        """Some of the codes drawn anew among those of their cluster."""
        if self.labels_V is None:
            return ids_BFL
        labels_V = self.labels_V.to(ids_BFL.device)
        order_V = labels_V.argsort(stable=True)  # the codes, cluster by cluster
        sizes_K = labels_V.bincount()
        starts_K = sizes_K.cumsum(0) - sizes_K
        label_BFL = labels_V[ids_BFL].long()
        inside = (torch.rand(ids_BFL.shape, device=ids_BFL.device) * sizes_K[label_BFL]).long()
        share_B11 = DAMAGE * torch.rand(len(ids_BFL), 1, 1, device=ids_BFL.device)
        anew = torch.rand(ids_BFL.shape, device=ids_BFL.device) < share_B11
        return torch.where(anew, order_V[starts_K[label_BFL] + inside], ids_BFL)

    def preview(self) -> np.ndarray:
        clips_BFHWC, _ = self._clips(0)
        return np.concatenate([np.concatenate(list(clip[:8]), 1) for clip in clips_BFHWC[:4]])

    def _decoded(self, steps: int) -> np.ndarray:
        """The held-back clips, coded and decoded, uint8 [B, F, H, W, 3]; 0 steps: by the tokenizer."""
        made = []
        for clip_FHWC, rate in zip(*self.shown, strict=True):
            ids_FL = self.vqvae.encode(torch.from_numpy(clip_FHWC).permute(0, 3, 1, 2).to(self.device))
            options: dict[str, Any] = {"rate": float(rate), "seed": 0, "steps": steps}
            frames = decode_clip(self.flow, self.vqvae, ids_FL, **options) if steps else self.vqvae.decode(ids_FL)
            made.append(frames.permute(0, 2, 3, 1).cpu().numpy())
        return np.stack(made)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for name, steps in (("plain_", 0), ("", 1), (f"{STEPS}_steps_", STEPS)):
            made, truth = self._decoded(steps), self.shown[0]
            figures |= {f"{name}psnr": psnr(made, truth), f"{name}flicker": flicker(made, truth)}
        return figures

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Six clips, four moments each: the truth, the tokenizer's decoder, one step, several steps."""
        sets = [self.shown[0], *(self._decoded(steps) for steps in (0, 1, STEPS))]
        moments = slice(0, None, max(1, self.config.frames // 4))
        return np.concatenate([np.concatenate(list(clips[b, moments][:4]), 1) for b in range(6) for clips in sets])

    def export(self) -> None:
        update_bundle(Path(self.source.folder), {WeightFile.FLOW: self.module.state_dict()}, flow=self.config)


def flicker(made_BFHWC: np.ndarray, true_BFHWC: np.ndarray) -> float:
    """Mean change from frame to frame, 8-bit levels, where the truth does not change at all."""
    still = (np.diff(true_BFHWC.astype(np.int16), axis=1) == 0).all(-1)
    change = np.abs(np.diff(made_BFHWC.astype(np.int16), axis=1))
    return float(change[still].mean()) if still.any() else 0.0
