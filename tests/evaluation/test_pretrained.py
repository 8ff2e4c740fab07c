"""A ViT of another project, from the file or the folder that it is published in, to scores of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import omnisource
from omnisource.errors import UserError
from omnisource.evaluation.load import load, with_class_names
from omnisource.evaluation.predict import media_files, predict
from omnisource.models.backbones.vit import VisionTransformer
from omnisource.models.weights.vit.content import Given
from omnisource.models.weights.vit.hugging_face import pixels
from omnisource.recipe.backbones.vit import ViT
from tests.support.formats import Case, case
from tests.support.media import moving_square, write_image, write_video

# Whether as its own file has it, with the names of its classes beside it, and what must be given since nothing says it.
HANDED: dict[str, dict[str, Any]] = {
    "timm_vit_cls": {"num_heads": 4},
    "timm_clip_quickgelu": {"num_heads": 4, "activation": "quick_gelu"},
    "dinov2_hub_reg4": {"num_heads": 4},
    "dinov3_original": {"num_heads": 4},
    "hf_dinov2_classifier": {},
    "hf_siglip_vision": {},
    "hf_vit": {},
    "hf_videomae": {},
    "videomae_original": {"num_heads": 4, "image_size": 32},
    "hf_vjepa2": {},
}


def write_handed(folder: Path, name: str) -> tuple[Path, Case]:
    """Writes a handed case as its project publishes it: a folder with a config.json, or one file."""
    handed = case(name)
    if name.startswith("hf_"):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(handed.config))
        processor = {
            key: handed.arrays[which].tolist() for key, which in (("image_mean", "mean"), ("image_std", "std"))
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        safetensors.torch.save_file(
            {key: t.contiguous() for key, t in handed.state.items()}, folder / "model.safetensors"
        )
        return folder, handed
    path = folder.with_suffix(".pth")
    torch.save({"model": handed.state, "epoch": 3}, path)
    return path, handed


@pytest.mark.shared_data
@torch.no_grad()
@pytest.mark.parametrize("name", HANDED)
def test_recognizer_of_a_published_file_gives_the_handed_numbers(tmp_path: Path, name: str) -> None:
    path, handed = write_handed(tmp_path / name, name)
    recognizer = omnisource.load_recognizer(path, **HANDED[name])
    media = "video" if "video_u8" in handed.arrays else "image"
    clips = handed.pixels(f"{media}_u8")
    clips = clips if media == "video" else clips.unsqueeze(2)
    outputs = {"features": recognizer.features(clips, media)}
    if "logits" in handed.arrays:
        outputs["logits"] = recognizer.logits(clips, media, "classes")
    for output, ours in outputs.items():
        expected = handed.output(output)
        assert (ours - expected).abs().max() <= 1e-6 * expected.abs().max(), output
    mean, std = (255 * handed.output(which).view(1, 3, 1, 1, 1) for which in ("mean", "std"))
    gray = torch.full((1, 3, 1, 2, 2), 100, dtype=torch.uint8)
    expected = ((100 - mean) / std).expand(1, 3, 1, 2, 2).float()
    torch.testing.assert_close(recognizer.normalize(gray), expected, rtol=1e-5, atol=1e-5)


def tiny_file(path: Path, classes: int = 3, **keys: Any) -> dict[str, Tensor]:
    """Writes a tiny ViT with timm's names as .safetensors; returns its tensors."""
    torch.manual_seed(0)
    vit = ViT(width=24, depth=2, num_heads=2, patch=8, image_size=32, tubelet=1, clip_length=1, **keys)
    state = {name: torch.randn(tensor.shape) for name, tensor in VisionTransformer(vit).state_dict().items()}
    del state["time_embed"]
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, 0]
    state |= {"head.weight": torch.randn(classes, 24), "head.bias": torch.randn(classes)} if classes else {}
    path.parent.mkdir(exist_ok=True)
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return state


def media_of(folder: Path) -> list[str]:
    frames = moving_square(20, 40, 48, (1, 0), seed=3)
    return [str(write_video(folder / "clip.mp4", frames)), str(write_image(folder / "still.png", frames[0]))]


def test_classifier_of_images_averages_frames_of_a_video_and_has_its_class_names(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    tiny_file(folder / "model.safetensors")
    config = {"architecture": "vit_tiny", "label_names": ["cat", "dog", "eel"], "num_classes": 3}
    config["pretrained_cfg"] = {
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "crop_pct": 0.9,
        "input_size": [3, 32, 32],
    }
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load(folder)
    assert loaded.class_names == {"classes": ("cat", "dog", "eel")}
    protocol = loaded.classifier.protocol.by_media
    assert (protocol["image"].views.short_side, protocol["image"].views.crop_size) == (36, 32)
    assert (protocol["video"].views.num_clips, protocol["video"].sampling.clip_length) == (10, 1)
    assert loaded.classifier.recognizer.backbone.normalization.mean == pytest.approx((102, 127.5, 153))
    assert any("the scores of 10 frames of a video are averaged" in note for note in loaded.notes)

    video, still = predict(loaded, media_files(media_of(tmp_path)), top=3)
    assert video.error is None and still.error is None
    assert {name for name, _ in still.predictions[0].top} == {"cat", "dog", "eel"}


def test_class_map_names_the_classes(tmp_path: Path) -> None:
    tiny_file(tmp_path / "vit.safetensors")
    loaded = load(tmp_path / "vit.safetensors")
    (tmp_path / "classes.txt").write_text("ape\nbee\ncat\n")
    assert with_class_names(loaded, str(tmp_path / "classes.txt")).class_names == {"classes": ("ape", "bee", "cat")}
    (tmp_path / "two.txt").write_text("ape\nbee\n")
    with pytest.raises(UserError, match=r"two\.txt: has 2 classes, and classes has 3"):
        with_class_names(loaded, str(tmp_path / "two.txt"))


@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        (["model"], ""),
        (["module"], ""),
        (["teacher"], "backbone."),
        (["state_dict"], "model.backbone."),
        ([], "visual.trunk."),
        (["state_dict"], "module.visual.trunk."),
        ([], "_orig_mod."),
    ],
)
def test_what_is_wrapped_around_a_vit_is_taken_off(tmp_path: Path, keys: list[str], prefix: str) -> None:
    state = tiny_file(tmp_path / "vit.safetensors")
    content: dict[str, Any] = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    for key in keys:
        content = {key: content, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "wrapped.pth")
    ours, theirs = (omnisource.load_recognizer(tmp_path / name) for name in ("wrapped.pth", "vit.safetensors"))
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_shards_of_a_folder_are_read_and_a_missing_one_is_said(tmp_path: Path) -> None:
    state = tiny_file(tmp_path / "whole/model.safetensors")
    folder = tmp_path / "sharded"
    folder.mkdir()
    names, places = sorted(state), {}
    for number, part in enumerate((names[:10], names[10:]), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        safetensors.torch.save_file({name: state[name].contiguous() for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    pixels = torch.zeros(1, 3, 1, 32, 32)
    ours, theirs = (omnisource.load_recognizer(where, num_heads=2) for where in (folder, tmp_path / "whole"))
    with torch.no_grad():
        assert torch.equal(ours.features(pixels, "image"), theirs.features(pixels, "image"))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of its 2 shards are missing: model-00002-of-00002\.safetensors"):
        omnisource.load_recognizer(folder)


def test_backbone_without_a_classifier_gives_features_and_classifies_nothing(tmp_path: Path) -> None:
    tiny_file(tmp_path / "vit.safetensors", classes=0)
    recognizer = omnisource.load_recognizer(tmp_path / "vit.safetensors", num_heads=2)
    images = torch.randint(0, 256, (2, 3, 1, 40, 48), dtype=torch.uint8)
    assert recognizer.features(images, "image").shape == (2, 24)
    with pytest.raises(UserError, match="a backbone without heads classifies nothing; train from it with model"):
        load(tmp_path / "vit.safetensors")


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"hidden_size": 32}, "hidden_size is 32, the tensors have 24"),
        ({"num_hidden_layers": 12, "patch_size": 8}, "num_hidden_layers is 12, the tensors have 2"),
        ({"id2label": {"0": "cat", "1": "dog"}}, "id2label has 2 classes"),
        (
            {"id2label": {str(number): str(number) for number in range(9)}},
            "id2label has 9 classes, and the tensors have 3",
        ),
        ([1], "config.json: holds a list, not an object of settings by name"),
    ],
)
def test_config_of_another_network_is_refused(tmp_path: Path, config: Any, fault: str) -> None:
    tiny_file(tmp_path / "vit.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        load(tmp_path / "vit.safetensors")
    assert fault in str(caught.value) and str(tmp_path) in str(caught.value)


def test_what_is_given_goes_before_what_is_assumed(tmp_path: Path) -> None:
    tiny_file(tmp_path / "vit.safetensors")
    recognizer = omnisource.load_recognizer(
        tmp_path / "vit.safetensors", num_heads=3, activation="quick_gelu", tubelet=2
    )
    vit = recognizer.backbone.vit  # type: ignore[attr-defined]
    assert (vit.sizes().num_heads, vit.traits().activation, vit.tubelet, vit.clip_length) == (3, "quick_gelu", 2, 16)
    clip = torch.zeros(1, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(recognizer.features(clip, "video"), recognizer.features(clip[:, :, :1], "image"))
    with pytest.raises(UserError, match=r"vit\.safetensors: there is no layers of a ViT; known are family, size"):
        omnisource.load_recognizer(tmp_path / "vit.safetensors", layers=3)


def test_folder_without_weights_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a folder without weights: it has none of model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("processor", "mean"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, 127.5),
        ({"image_mean": [0.2, 0.2, 0.2], "image_std": [1, 1, 1]}, 51),
        ({"do_normalize": False}, 0),
    ],
)
def test_processor_of_hugging_face_says_normalization_and_size(
    tmp_path: Path, processor: dict[str, Any], mean: float
) -> None:
    given = Given(processor={**processor, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}})
    assert pixels(given)["pixel_mean"] == pytest.approx([mean] * 3)
    assert (given.crop_size(), given.short_side()) == (224, 256)
    assert (Given(processor={"size": 192}).crop_size(), Given().crop_size()) == (192, None)
