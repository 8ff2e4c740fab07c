from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from omnisource.evaluation.protocol import protocol_of_recipe
from omnisource.export.folding import fold
from omnisource.export.programs import export_paths
from omnisource.models.batch_norm import BatchNorm
from omnisource.types import Media
from tests.support.tiny_checkpoints import untrained_recipe, untrained_recognizer

BATCH_NORM = torch.ops.aten.batch_norm.default


def test_paths_are_folded_with_the_statistics_of_their_media_and_take_any_size() -> None:
    recipe = untrained_recipe("model.image_statistics=True")
    recognizer = untrained_recognizer(recipe).eval()
    for norm in recognizer.modules():
        if isinstance(norm, BatchNorm):
            norm.image_running_mean.normal_(0, 0.3)
            norm.image_running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.normal_()
    paths = export_paths(recognizer, protocol_of_recipe(recipe))
    shapes: dict[Media, tuple[int, ...]] = {"image": (3, 3, 47, 66), "video": (1, 3, 2, 40, 33)}
    for media, path in paths.items():
        assert path.fixed_size is None
        targets = [node.target for node in path.module.graph.nodes]  # type: ignore[union-attr]
        assert BATCH_NORM not in targets and torch.ops.aten.sum.dim_IntList not in targets
        x = torch.randint(256, shapes[media], dtype=torch.uint8)
        clips = x.unsqueeze(2) if media == "image" else x
        (head,) = protocol_of_recipe(recipe).by_media[media].heads
        expected = recognizer.logits(clips, media, head).softmax(dim=1)
        torch.testing.assert_close(path.module(x)[head], expected, atol=1e-6, rtol=1e-4)


class Norms(nn.Module):
    """Batch normalizations with a convolution before, a linear layer behind, and neither."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.BatchNorm2d(3), nn.BatchNorm2d(4), nn.BatchNorm1d(4)
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv(self.first(x))
        return self.linear(self.third((self.second(shared).relu() + shared).mean((2, 3))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_norm_is_folded_wherever_it_stands(dtype: torch.dtype) -> None:
    module = Norms().to(dtype).eval()
    for norm in (module.first, module.second, module.third):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    graph = torch.export.export(module, (x,)).module()
    fold(graph)  # type: ignore[arg-type]
    assert BATCH_NORM not in [node.target for node in graph.graph.nodes]  # type: ignore[union-attr]
    torch.testing.assert_close(graph(x), module(x))


@pytest.mark.parametrize("family", ["vit", "dinov3", "siglip"])  # class token; registers and turned keys; a pool
def test_vit_takes_batches_of_any_size(family: str) -> None:
    sizes = ("width=16", "depth=1", "num_heads=2", "mlp_width=32", "patch=8", "image_size=32")
    resnet = ("model.depth=50", "model.width=1.0")
    recipe = untrained_recipe(*resnet, f"model.vit.family={family}", *(f"model.vit.{size}" for size in sizes))
    recognizer = untrained_recognizer(recipe).eval()
    for media, path in export_paths(recognizer, protocol_of_recipe(recipe)).items():
        x = torch.randint(256, (5, *path.example.shape[1:]), dtype=torch.uint8)
        (head,) = protocol_of_recipe(recipe).by_media[media].heads
        expected = recognizer.logits(x.unsqueeze(2) if media == "image" else x, media, head).softmax(dim=1)
        torch.testing.assert_close(path.module(x)[head], expected, atol=1e-5, rtol=1e-4)
