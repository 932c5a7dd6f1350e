"""Training the VQ image tokenizer on the shapes world."""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.bundle import update_bundle
from cogstyle.config import TokenizerConfig
from cogstyle.data import clips, world
from cogstyle.tokenizers.vqvae import VQVAE, Codebook, to_float
from cogstyle.training.step import WHOLE, Share, load_weights

COMMITMENT = 0.25  # weight of the term that keeps features near their entry
DECAY = 0.99  # of the running means that the codebook follows
DEAD = 0.05  # an entry chosen by fewer places a step than this is moved onto a feature of the batch
REVIVED = 0.25  # places a step that a moved entry is taken to have: what nothing chooses is soon moved again
CLIPS, CLIP = 24, 5  # held-back clips, and frames of each
CLOSE_UP = 0.25  # share of the pictures that are cut out of a render at three times the size


def update_codebook(codebook: Codebook, features_PD: Tensor, ids_P: Tensor) -> None:
    """Move every entry towards the features that chose it (arXiv 1711.00937, appendix A.1); revive dead ones.

    A dead entry moves onto a feature of the batch, drawn by its squared distance to the entry it has: nearly
    all places show plain background, which one entry serves.
    """
    counts = torch.bincount(ids_P, minlength=len(codebook.counts)).float()
    sums = torch.zeros_like(codebook.sums).index_add_(0, ids_P, features_PD)
    codebook.counts.lerp_(counts, 1.0 - DECAY)
    codebook.sums.lerp_(sums, 1.0 - DECAY)
    dead = codebook.counts < DEAD
    if dead.any():
        distance_P = (features_PD - codebook.vectors[ids_P]).square().sum(1) + 1e-9
        chosen = features_PD[distance_P.multinomial(int(dead.sum()), replacement=True)]
        codebook.counts[dead] = REVIVED
        codebook.sums[dead] = REVIVED * chosen
    codebook.vectors.copy_(codebook.sums / codebook.counts[:, None])


def cluster_codes(vectors_VD: Tensor, clusters: int) -> Tensor:
    """Cluster of every code, int32 [V], by k-means on the code vectors."""
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    _, labels, _ = cv2.kmeans(vectors_VD.numpy(), clusters, None, stop, 4, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    return torch.from_numpy(labels).flatten().to(torch.int32)


def draw_pictures(rng: np.random.Generator, count: int, size: int, first_seed: int = 0) -> np.ndarray:
    """uint8 [count, size, size, 3]: scenes at random moments, some of them close up around an actor."""
    pictures: list[np.ndarray] = []
    while len(pictures) < count:
        scene = world.draw_scene(first_seed + int(rng.integers(world.VALIDATION_SEED)))
        for _ in range(2):
            t = float(rng.uniform(0.0, scene.duration))
            if rng.random() >= CLOSE_UP:
                pictures.append(world.render(scene, t, size))
                continue
            place = world.state(scene.actors[0], t, scene.duration)
            corner = np.array([place.x, place.y]) * 3 * size - size / 2 + rng.uniform(-0.5, 0.5, 2) * size
            x, y = np.clip(corner, 0, 2 * size).astype(int)
            pictures.append(world.render(scene, t, 3 * size)[y : y + size, x : x + size])
    return np.stack(pictures[:count])


def to_tensor(images_BHWC: np.ndarray) -> Tensor:
    """uint8 [B, height, width, 3] -> [B, 3, height, width] (channels last in memory)."""
    return torch.from_numpy(np.ascontiguousarray(images_BHWC)).permute(0, 3, 1, 2)


class TokenizerJob:
    """VQ-VAE: squared error of the pixels + commitment; the codebook follows running means.

    Args:
        decoder_only: train the decoder alone: pictures keep their codes, so whatever was trained on them still fits.
    """

    def __init__(
        self, config: TokenizerConfig, *, batch: int, seed: int, bundle: Path, decoder_only: bool = False
    ) -> None:
        self.config, self.batch, self.seed, self.bundle = config, batch, seed, bundle
        self.decoder_only = decoder_only
        torch.manual_seed(seed)
        self.model: VQVAE = VQVAE(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module: nn.Module = self.model
        self.base: nn.Module | None = None
        self.device = torch.device("cpu")
        held_back = draw_pictures(np.random.default_rng(seed), 128, config.image_size, world.VALIDATION_SEED)
        self.held_back_BCHW = to_tensor(held_back)
        rows = [clips.keyframe_row(world.VALIDATION_SEED + n, config.image_size, CLIP) for n in range(CLIPS)]
        self.clips_BCHW = to_tensor(np.concatenate([row.frames for row in rows]))

    def go_on_from(self, tensors: dict[str, Tensor]) -> None:
        """Start from the weights of a trained tokenizer."""
        load_weights(self.model, tensors)

    def trained(self) -> list[nn.Parameter]:
        return list((self.model.decoder if self.decoder_only else self.model).parameters())

    def _pictures(self, step: int) -> np.ndarray:
        return draw_pictures(np.random.default_rng([self.seed, step]), self.batch, self.config.image_size)

    def preview(self) -> np.ndarray:
        return np.concatenate(list(self._pictures(0)[:12]), 1)

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        assert share is WHOLE  # the codebook follows whole batches
        pictures_BCHW = to_tensor(self._pictures(step))
        pixels_BCHW = to_float(pictures_BCHW)
        if self.decoder_only:
            error = F.mse_loss(self.model.pixels(self.model.encode(pictures_BCHW)), pixels_BCHW)
            return error, {"error": error.item()}
        features_BDHW = self.model.features(pixels_BCHW)
        flat_PD = features_BDHW.permute(0, 2, 3, 1).reshape(-1, self.config.code_width)
        codebook = self.model.codebook
        with torch.no_grad():
            if step == 0:  # start from features of the data: no entry is far from all of them
                codebook.vectors.copy_(flat_PD[torch.randperm(len(flat_PD))[: self.config.codes]])
                codebook.counts.fill_(REVIVED)
                codebook.sums.copy_(REVIVED * codebook.vectors)
            ids_P = codebook.nearest(flat_PD)
        quantised_PD = F.embedding(ids_P, codebook.vectors)
        commitment = F.mse_loss(flat_PD, quantised_PD)
        straight_PD = flat_PD + (quantised_PD - flat_PD).detach()
        b, d, h, w = features_BDHW.shape
        grid_BDHW = straight_PD.view(b, h, w, d).permute(0, 3, 1, 2)
        error = F.mse_loss(self.model.decoder(grid_BDHW), pixels_BCHW)
        with torch.no_grad():
            update_codebook(codebook, flat_PD, ids_P)
        return error + COMMITMENT * commitment, {"error": error.item(), "commitment": commitment.item()}

    @torch.no_grad()
    def reconstruct(self) -> tuple[Tensor, Tensor]:
        """Held-back pictures as ids [B, L] and as decoded uint8 images."""
        ids_BL = self.model.encode(self.held_back_BCHW)
        return ids_BL, self.model.decode(ids_BL)

    def validate(self) -> dict[str, float]:
        ids_BL, decoded_BCHW = self.reconstruct()
        squared = (decoded_BCHW.float() - self.held_back_BCHW.float()).square().mean()
        live = (self.model.codebook.counts >= 2 * DEAD).sum()
        return {
            "psnr": float(10 * torch.log10(255.0**2 / squared)),
            "live_codes": float(live),
            "codes_in_held_back": float(len(ids_BL.unique())),
            "steady": self.steady(),
        }

    def steady(self) -> float:
        """Share of the codes of held-back clips that equal the code at the same place one frame before."""
        ids_BFL = self.model.encode(self.clips_BCHW).unflatten(0, (-1, CLIP))
        return (ids_BFL[:, 1:] == ids_BFL[:, :-1]).float().mean().item()

    def picture(self) -> np.ndarray:
        _, decoded_BCHW = self.reconstruct()
        rows = [torch.cat(list(images[:12]), 2) for images in (self.held_back_BCHW, decoded_BCHW)]
        return torch.cat(rows, 1).permute(1, 2, 0).numpy()

    def export(self) -> None:
        files = {"tokenizer.safetensors": self.model.state_dict()}
        if not self.decoder_only:
            labels = cluster_codes(self.model.codebook.vectors, self.config.clusters)
            files["clusters.safetensors"] = {"labels": labels}
        update_bundle(self.bundle, files, same_codes=self.decoder_only, tokenizer=self.config)
