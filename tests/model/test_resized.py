"""Another grid or length of the same weights: nothing changes at the own size, elsewhere positions alone do."""

from dataclasses import replace

import pytest
import torch

from cogstyle.adapter import adapter_from_image
from cogstyle.config import MODELS
from cogstyle.errors import LayoutError
from cogstyle.layout import keyframe_layout
from cogstyle.model.resized import resize, resized, sized
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.training.transformer import fresh_transformer
from tests.conftest import disturb


def test_a_table_of_its_own_size_stays_and_lines_stay_lines():
    table = torch.randn(5, 4, 4, 3)
    assert resize(table, 5, (4, 4)) is table
    places = torch.arange(4.0)
    lines = (10 * torch.arange(5.0)[:, None, None] + places[:, None] + 0 * places)[..., None].expand(5, 4, 4, 1)
    found = resize(lines, 9, (8, 4))[..., 0]
    assert torch.allclose(found[:, 3, 0], 5.0 * torch.arange(9) + 1.25)  # times halved, the first and last stay
    assert torch.allclose(found[0, 1:-1, 2], (torch.arange(8) / 2 - 0.25)[1:-1])  # as pixels of a picture are


def test_the_own_size_is_the_model_itself(model, adapters):
    assert resized(model, adapters["keyframes"], 5, (4, 4)) == (model, adapters["keyframes"])
    assert resized(model, None, 1, (4, 4)) == (model, None)
    assert sized(model.config, 1, (4, 4)) is model.config


@pytest.mark.parametrize("family", ["debug", "llama-debug"])
@pytest.mark.parametrize(("frames", "grid"), [(9, (4, 4)), (3, (6, 6)), (5, (6, 4))])
def test_a_view_is_a_model_of_that_size(family, frames, grid):
    """Against one that was made for it and has the same weights, and positions resized by hand."""
    torch.manual_seed(3)
    old = MODELS[family]
    image = fresh_transformer(old)
    adapter = adapter_from_image(image)
    image.requires_grad_()  # as with train = "all"
    disturb(image)
    disturb(adapter)
    new = sized(old, frames, grid)
    twin, twin_adapter = Transformer(new), TemporalAdapter(new)
    tables, image_tables = adapter.state_dict(), image.state_dict()
    if family == "debug":
        first = image_tables["positions.weight"][old.text_positions : old.text_positions + 16]
        whole = torch.cat([first, tables["positions.weight"][:64]]).unflatten(0, (5, 4, 4))
        made = resize(whole, frames, grid).flatten(0, 2)
        tokens = grid[0] * grid[1]
        text = image_tables["positions.weight"][: old.text_positions]
        image_tables["positions.weight"] = torch.cat([text, made[:tokens]])
        tables["positions.weight"] = made[tokens:]
    else:
        tables["times.weight"] = resize(tables["times.weight"][:, None, None], frames, (1, 1))[:, 0, 0]
    twin.load_state_dict(image_tables)
    twin_adapter.load_state_dict(tables)
    text = torch.randint(old.codes + 8, old.start_of_image, (2, 6)) if family == "debug" else torch.rand(2, 6, 18)
    if family != "debug":
        text[..., -2], text[..., -1] = 1.0, 4.0
    tokens_BFL = torch.randint(old.codes, (2, frames, grid[0] * grid[1]))
    layout = keyframe_layout(new, 6)
    view, view_adapter = resized(image, adapter, frames, grid)
    found = view(text, tokens_BFL, layout, view_adapter)
    assert torch.allclose(found, twin(text, tokens_BFL, layout, twin_adapter), atol=1e-5)
    found.square().mean().backward()
    learned = adapter.positions if family == "debug" else adapter.times
    assert learned.weight.grad.abs().sum() > 0 and adapter.config == old and image.config == old
    if family == "debug":
        assert image.positions.weight.grad[old.text_positions :][:16].abs().sum() > 0
        with pytest.raises(LayoutError):
            image(text, tokens_BFL, replace(layout, times=tuple(range(9, 9 + frames))), adapter)
