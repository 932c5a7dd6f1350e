"""Super-resolution: local attention against a loop over neighbours, and what each row may see."""

from dataclasses import replace

import pytest
import torch

from cogstyle.errors import ConfigError, LayoutError
from cogstyle.model.superres import SuperResolution
from tests.conftest import disturb
from tests.model.test_transformer import some_text, some_tokens


@pytest.fixture(scope="module")
def upscaler(config):
    torch.manual_seed(3)
    module = SuperResolution(config)
    disturb(module)
    return module.requires_grad_(False)


@pytest.mark.parametrize("grid", [(4, 4), (3, 4), (2, 6)], ids=str)
def test_local_attention_by_hand(config, grid):
    config = replace(config, grid=grid, window=1)
    upscaler = SuperResolution(config)
    rows, columns = upscaler.grid
    fine = torch.randn(3, 1, 1, rows * columns, 4)
    coarse = torch.randn(2, 1, 1, config.tokens, 4)
    found = upscaler._local(fine, tuple(coarse), upscaler.window_bias(torch.device("cpu")))[0, 0]
    q, k, v = fine[:, 0, 0]
    for place in range(0, rows * columns, 5):
        y, x = divmod(place, columns)
        keys, values = [], []
        for cy in range(y // 3 - 2, y // 3 + 3):
            for cx in range(x // 3 - 2, x // 3 + 3):
                if 0 <= cy < config.grid[0] and 0 <= cx < config.grid[1]:
                    keys.append(coarse[0, 0, 0, cy * config.grid[1] + cx])
                    values.append(coarse[1, 0, 0, cy * config.grid[1] + cx])
        for fy in range(y - 4, y + 5):
            for fx in range(x - 2, x + 3):
                if 0 <= fy < rows and 0 <= fx < columns:
                    keys.append(k[fy * columns + fx])
                    values.append(v[fy * columns + fx])
        weights = (torch.stack(keys) @ q[place] / 2.0).softmax(0)
        torch.testing.assert_close(found[place], weights @ torch.stack(values), rtol=0, atol=1e-5)


def test_padding_and_batch_change_nothing(model, upscaler, config):
    text, coarse = some_text(config, [3, 6]), some_tokens(config, 2, 1)[:, 0]
    both = upscaler(model, text, coarse)
    assert both.shape == (2, 9 * config.tokens, config.width)
    torch.testing.assert_close(both[:1], upscaler(model, text[:1, 3:], coarse[:1]), rtol=0, atol=2e-5)


def test_impossible_sizes(model, upscaler, config):
    with pytest.raises(LayoutError, match="must be 1 x 16"):
        upscaler(model, some_text(config, [3]), torch.zeros(1, 15, dtype=torch.long))
    with pytest.raises(ConfigError, match="coarse_offset 1 leaves no room"):
        SuperResolution(config, coarse_offset=1)
