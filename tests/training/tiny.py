"""Jobs of milliseconds, and processes for them that are forks of the test's own."""

import os
import socket
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cogstyle.adapter import adapter_from_image
from cogstyle.config import MODELS
from cogstyle.errors import CogstyleError
from cogstyle.layout import keyframe_layout
from cogstyle.training.job import WHOLE, OptimConfig
from cogstyle.training.loss import token_loss
from cogstyle.training.transformer import fresh_transformer

OPTIM = OptimConfig(steps=8, batch=4, lr=1e-2, warmup=1, clip=0.5)


class TinyJob:
    """A line through points; `losses` puts other losses in the place of those of some steps."""

    base = None

    def __init__(self, losses=None, sleep=0.0):
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(3, 1)
        self.device, self.losses, self.sleep, self.exported = torch.device("cpu"), losses or {}, sleep, None

    def trained(self):
        return list(self.module.parameters())

    def loss(self, step, share=WHOLE):
        time.sleep(self.sleep)
        x = share.of(torch.randn(4, 3, generator=torch.Generator().manual_seed(step)))
        loss = (self.module(x)[:, 0] - x.sum(1)).square().mean()
        return loss * self.losses.get(step, 1.0), {"tokens": float(len(x))}

    def validate(self):
        return {"validation_loss": float(self.module.weight.detach().sum())}

    def picture(self):
        return np.zeros((4, 4, 3), np.uint8)

    preview = picture

    def export(self):
        self.exported = {name: value.clone() for name, value in self.module.state_dict().items()}


class VideoJob(TinyJob):
    """The keyframe adapter of the debug model on random tokens; `whole` trains the image model too."""

    def __init__(self, whole=False):
        super().__init__()
        torch.manual_seed(3)
        self.config = MODELS["debug"]
        image = fresh_transformer(self.config)
        adapter = adapter_from_image(image)
        self.image, self.adapter = image, adapter
        self.module = nn.ModuleDict({"image": image, "adapter": adapter}) if whole else adapter
        self.base = None if whole else image
        self.tokens = torch.randint(self.config.codes, (32, self.config.frames, self.config.tokens))
        self.text = torch.randint(self.config.codes + 8, self.config.start_of_image, (32, 6))

    def loss(self, step, share=WHOLE):
        rows = share.of(torch.arange(4 * step, 4 * step + 4))
        h_BPD = self.image(self.text[rows], self.tokens[rows], keyframe_layout(self.config, 6), self.adapter)
        logits_BPV = self.image.logits(h_BPD[:, self.config.tokens :])
        return token_loss(logits_BPV, self.tokens[rows, 1:].flatten(1)).mean(), {"tokens": 80.0 * len(rows)}

    def validate(self):
        with torch.no_grad():
            return {"validation_loss": self.loss(0)[0].item()}


def fork(work, *arguments, rank=0, size=1, port=0):
    """Start `work` in a fork of this process; returns its id. A user's error is kept in error-RANK.txt of cwd."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_PORT": str(port)}
        os.environ |= {"MASTER_ADDR": "localhost"}
        work(*arguments)
        status = 0
    except CogstyleError as error:
        Path(f"error-{rank}.txt").write_text(str(error))
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def fork_all(size, work, *arguments):
    """Start `size` processes that make one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [fork(work, *arguments, rank=rank, size=size, port=port) for rank in range(size)]


def statuses(pids):
    """Exit statuses of processes, once they have all ended; a killed one's is negative."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
