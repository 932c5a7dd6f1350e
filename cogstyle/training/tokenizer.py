"""Training the VQ image tokenizer on pictures."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.bundle import WeightFile, update_bundle
from cogstyle.config import TokenizerConfig
from cogstyle.tokenizers.vqvae import VQVAE, Codebook, to_float
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.sharp import Critic, SharpConfig, unlikeness
from cogstyle.training.sources import Pictures

COMMITMENT = 0.25  # weight of the term that keeps features near their entry
DECAY = 0.99  # of the running means that the codebook follows
DEAD = 0.025  # an entry chosen by fewer places than this share of the mean is moved onto a feature of the batch
REVIVED = 0.125  # share of the mean that a moved entry is taken to have: what nothing chooses is soon moved again
CLIPS = 24  # held-back clips
HELD_BACK, PAGE, PART = 128, 24, 16  # held-back pictures, those of them that are shown, those computed at once
NEVER = 1 << 40  # a step that no run comes to


def update_codebook(codebook: Codebook, features_PD: Tensor, ids_P: Tensor) -> None:
    """Move every entry towards the features that chose it (arXiv 1711.00937, appendix A.1); revive dead ones.

    A dead entry moves onto a feature of the batch, drawn by its squared distance to the entry it has: nearly
    all places show plain background, which one entry serves.
    """
    counts = torch.bincount(ids_P, minlength=len(codebook.counts)).float()
    sums = torch.zeros_like(codebook.sums).index_add_(0, ids_P, features_PD)
    codebook.counts.lerp_(counts, 1.0 - DECAY)
    codebook.sums.lerp_(sums, 1.0 - DECAY)
    mean = len(ids_P) / len(counts)
    dead = codebook.counts < DEAD * mean
    if dead.any():
        distance_P = (features_PD - codebook.vectors[ids_P]).square().sum(1) + 1e-9
        chosen = features_PD[distance_P.multinomial(int(dead.sum()), replacement=True)]
        codebook.counts[dead] = REVIVED * mean
        codebook.sums[dead] = REVIVED * mean * chosen
    codebook.vectors.copy_(codebook.sums / codebook.counts[:, None])


def cluster_codes(vectors_VD: Tensor, clusters: int) -> Tensor:
    """Cluster of every code, int32 [V], by k-means on the code vectors."""
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    _, labels, _ = cv2.kmeans(vectors_VD.numpy(), clusters, None, stop, 4, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    return torch.from_numpy(labels).flatten().to(torch.int32)


def to_tensor(images_BHWC: np.ndarray) -> Tensor:
    """uint8 [B, height, width, 3] -> [B, 3, height, width] (channels last in memory)."""
    return torch.from_numpy(np.ascontiguousarray(images_BHWC)).permute(0, 3, 1, 2)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies faster in bfloat16: of CPUs those with AMX do (AVX-512 alone is half as fast)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


class TokenizerJob:
    """VQ-VAE: squared error of the pixels + commitment; the codebook follows running means.

    Args:
        pictures: what to train on; None: nothing, as for an export alone.
        decoder_only: train the decoder alone: pictures keep their codes, so whatever was trained on them still fits.
        sharp: terms beside the squared error.
        steps: of the run.
    """

    def __init__(
        self,
        config: TokenizerConfig,
        pictures: Pictures | None,
        *,
        batch: int,
        seed: int,
        bundle: Path,
        decoder_only: bool = False,
        sharp: SharpConfig = SharpConfig(),  # noqa: B008  (frozen)
        steps: int = 1,
    ) -> None:
        self.config, self.batch, self.seed, self.bundle = config, batch, seed, bundle
        self.decoder_only = decoder_only
        self.has_codes = False  # a codebook to continue from
        self.places = batch * (config.image_size // config.rate) ** 2  # of a step
        torch.manual_seed(seed)
        self.model: VQVAE = VQVAE(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module: nn.Module = self.model
        self.sharp, self.sharp_from = sharp, sharp.adversarial_from * steps
        self.critic = Critic() if sharp.adversarial else None
        if self.critic is not None:
            self.module = nn.ModuleDict({"tokenizer": self.model, "critic": self.critic})
        self.base: nn.Module | None = None
        self.device = torch.device("cpu")
        if pictures is None:
            return
        self.pictures = pictures
        self.held_back_BCHW = to_tensor(pictures.draw(np.random.default_rng(seed), HELD_BACK, held_back=True))
        self.clips_CFHW3 = pictures.clips(CLIPS)

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from the weights of a trained tokenizer, its codebook with them."""
        load_weights(self.model, tensors)
        codebook, self.has_codes = self.model.codebook, True
        codebook.sums.copy_(codebook.vectors * codebook.counts[:, None])  # which rounding had parted

    def trained(self) -> list[nn.Parameter]:
        critic = [] if self.critic is None else list(self.critic.parameters())
        return [*(self.model.decoder if self.decoder_only else self.model).parameters(), *critic]

    def _pictures(self, step: int) -> np.ndarray:
        return self.pictures.draw(np.random.default_rng([self.seed, step]), self.batch)

    def preview(self) -> np.ndarray:
        return np.concatenate(list(self._pictures(0)[:12]), 1)

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        assert share is WHOLE  # the codebook follows whole batches
        pictures_BCHW = to_tensor(self._pictures(step)).to(self.device)
        pixels_BCHW = to_float(pictures_BCHW)
        if self.decoder_only:
            ids_BL = self.model.encode(pictures_BCHW)
            with self._precision():
                made_BCHW = self.model.pixels(ids_BL)
            return self._error(made_BCHW.float(), pixels_BCHW, step)
        features_BDHW = self._features(pixels_BCHW)
        flat_PD = flatten(features_BDHW)
        codebook = self.model.codebook
        with torch.no_grad():
            if step == 0 and not self.has_codes:
                self._start_codebook(flat_PD)
            ids_P = codebook.nearest(flat_PD)
        quantised_PD = F.embedding(ids_P, codebook.vectors)
        commitment = F.mse_loss(flat_PD, quantised_PD)
        straight_PD = flat_PD + (quantised_PD - flat_PD).detach()
        b, d, h, w = features_BDHW.shape
        grid_BDHW = straight_PD.view(b, h, w, d).permute(0, 3, 1, 2)
        with self._precision():
            made_BCHW = self.model.decoder(grid_BDHW)
        error, figures = self._error(made_BCHW.float(), pixels_BCHW, step)
        with torch.no_grad():
            update_codebook(codebook, flat_PD, ids_P)
        return error + COMMITMENT * commitment, figures | {"commitment": commitment.item()}

    def _error(self, made_BCHW: Tensor, pixels_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error, and the terms for sharp pictures."""
        error = F.mse_loss(made_BCHW, pixels_BCHW)
        figures = {"error": error.item()}
        if self.sharp.perceptual:
            unlike = unlikeness(made_BCHW, pixels_BCHW)
            error, figures["unlikeness"] = error + self.sharp.perceptual * unlike, unlike.item()
        if self.critic is not None and step >= self.sharp_from:
            fooled, caught = self.critic.opinions(made_BCHW, pixels_BCHW)
            term = self.sharp.adversarial * fooled + caught
            error = error + term - term.detach()  # gradients alone: the loss says how far training is, with no leap
            figures |= {"fooled": fooled.item(), "caught": caught.item()}
        return error, figures

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))

    def _features(self, pixels_BCHW: Tensor) -> Tensor:
        with self._precision():
            return self.model.features(pixels_BCHW).float()

    def _start_codebook(self, flat_PD: Tensor) -> None:
        """Entries are features of the data, of as many batches as it takes: none is far from all of them."""
        found = [flat_PD]
        while sum(map(len, found)) < self.config.codes:
            pictures_BCHW = to_tensor(self._pictures(NEVER + len(found))).to(self.device)
            found.append(flatten(self._features(to_float(pictures_BCHW))))
        every_PD, codebook = torch.cat(found), self.model.codebook
        codebook.vectors.copy_(every_PD[torch.randperm(len(every_PD), device=every_PD.device)[: self.config.codes]])
        codebook.counts.fill_(REVIVED * self.places / self.config.codes)
        codebook.sums.copy_(codebook.counts[:, None] * codebook.vectors)

    @torch.no_grad()
    def reconstruct(self) -> tuple[Tensor, Tensor]:
        """Held-back pictures as ids [B, L] and as decoded uint8 images."""
        parts = [self.model.encode(part.to(self.device)) for part in self.held_back_BCHW.split(PART)]
        decoded = [self.model.decode(ids_BL).cpu() for ids_BL in parts]
        return torch.cat(parts).cpu(), torch.cat(decoded)

    def validate(self) -> dict[str, float]:
        ids_BL, decoded_BCHW = self.reconstruct()
        squared = (decoded_BCHW.float() - self.held_back_BCHW.float()).square().mean()
        live = (self.model.codebook.counts >= 2 * DEAD * self.places / self.config.codes).sum()
        figures = {
            "psnr": float(10 * torch.log10(255.0**2 / squared)),
            "ssim": float(np.mean(list(map(ssim, to_arrays(self.held_back_BCHW), to_arrays(decoded_BCHW))))),
            "live_codes": float(live),
            "codes_in_held_back": float(len(ids_BL.unique())),
        }
        return figures | ({"steady": self.steady()} if len(self.clips_CFHW3) else {})

    def steady(self) -> float:
        """Share of the codes of held-back clips that equal the code at the same place one frame before."""
        found = [self.model.encode(to_tensor(clip).to(self.device)) for clip in self.clips_CFHW3]
        return torch.stack([(ids_FL[1:] == ids_FL[:-1]).float().mean() for ids_FL in found]).mean().item()

    def picture(self) -> np.ndarray:
        """Held-back pictures, and below each what the decoder makes of its codes."""
        _, decoded_BCHW = self.reconstruct()
        rows = [
            torch.cat(list(images[start : start + 12]), 2)
            for start in range(0, PAGE, 12)
            for images in (self.held_back_BCHW, decoded_BCHW)
        ]
        return torch.cat(rows, 1).permute(1, 2, 0).numpy()

    def export(self) -> None:
        files: dict[str, Any] = {WeightFile.TOKENIZER: self.model.state_dict()}
        if not self.decoder_only:
            labels = cluster_codes(self.model.codebook.vectors.cpu(), self.config.clusters)
            files[WeightFile.CLUSTERS] = {"labels": labels}
        update_bundle(self.bundle, files, same_codes=self.decoder_only, tokenizer=self.config)


def flatten(features_BDHW: Tensor) -> Tensor:
    """[B, D, H, W] -> [B * H * W, D]."""
    return features_BDHW.permute(0, 2, 3, 1).flatten(0, 2)


def to_arrays(images_BCHW: Tensor) -> np.ndarray:
    """[B, 3, height, width] -> [B, height, width, 3]."""
    return images_BCHW.permute(0, 2, 3, 1).numpy()


def ssim(one_HWC: np.ndarray, other_HWC: np.ndarray) -> float:
    """Structural similarity of the brightness of two uint8 pictures, at most 1 (Wang et al., 2004)."""
    one, other = (cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (one_HWC, other_HWC))
    x, y = one.astype(np.float64), other.astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, xy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return float((((2 * mx * my + a) * (2 * xy + b)) / ((mx * mx + my * my + a) * (vx + vy + b))).mean())
