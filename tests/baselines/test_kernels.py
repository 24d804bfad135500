"""What encoders do on a GPU, tested without one: faster parts, precision, batch sizes, compiling."""

import copy
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from originals import randomise
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, VideoMAEConfig
from transformers.models.clip.modeling_clip import CLIPMLP

from blemore.errors import ValidationError
from blemore_baselines.encoders import ENCODERS, create, encoder_class, frames, torch_encoder
from blemore_baselines.encoders.hicmae import HiCMAEModel
from blemore_baselines.encoders.kernels import Patches, QuickMLP, accelerate
from blemore_baselines.encoders.torch_encoder import TorchEncoder, arithmetic, is_gpu
from blemore_baselines.encoders.videomaev2 import Pooled
from blemore_baselines.encoders.videoswin import Swin3D

WITH_WEIGHTS = [name for name in ENCODERS if issubclass(encoder_class(name), TorchEncoder)]
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

pytestmark = pytest.mark.usefixtures("one_thread")


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------- faster parts


@pytest.mark.parametrize("size", [(12, 20), (13, 23)])
@pytest.mark.parametrize("bias", [True, False])
def test_patches_of_images_equal_the_convolution(size, bias):
    convolution, x = randomise(nn.Conv2d(3, 7, (4, 5), (4, 5), bias=bias)), random(2, 3, *size)
    assert torch.allclose(Patches(convolution)(x), convolution(x), atol=1e-6)


def test_patches_of_videos_equal_the_convolution():
    convolution, x = randomise(nn.Conv3d(3, 7, (2, 4, 3), (2, 4, 3))), random(2, 5, 3, 8, 9).transpose(1, 2)
    assert torch.allclose(Patches(convolution)(x), convolution(x), atol=1e-6)


def test_the_quick_gelu_in_one_pass():
    mlp = randomise(CLIPMLP(CLIPVisionConfig(**LAYERS)))
    x = 5 * random(2, 3, 32)
    expected = mlp(x)
    assert torch.allclose(QuickMLP(mlp.fc1, mlp.fc2)(x), expected, atol=1e-5) and expected.std() > 0.1


def clip(**options):
    sizes = {"image_size": 32, "patch_size": 8, "projection_dim": 16}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**LAYERS, **sizes, **options))


MODELS = {
    "clip": (clip, (2, 3, 32, 32)),
    "imagebind": (lambda: clip(hidden_act="gelu"), (2, 3, 32, 32)),
    "videomae": (
        lambda: Pooled(VideoMAEConfig(**LAYERS, image_size=32, patch_size=8, num_frames=4)),
        (2, 4, 3, 32, 32),
    ),
    "swin": (lambda: Swin3D(8, [2, 1], [1, 2]), (2, 3, 4, 36, 36)),
    "hicmae": (lambda: HiCMAEModel(16, depth=2, fused=1), (2, 3, 16, 160, 160)),
}


def forward(model, x):
    output = model(x, random(len(x), 1, 256, 128)) if isinstance(model, HiCMAEModel) else model(x)
    return getattr(output, "image_embeds", output)


@pytest.mark.parametrize("name", MODELS)
def test_an_accelerated_model_gives_the_same(name):
    build, shape = MODELS[name]
    model, x = randomise(build()), random(*shape)
    for module in model.modules():
        if hasattr(module, "relative_position_index"):
            lines = len(module.relative_position_bias_table)
            module.relative_position_index.random_(lines, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = forward(model, x)
        accelerate(model)
        result = forward(model, x)
    assert any(isinstance(module, Patches) for module in model.modules())
    assert any(isinstance(module, QuickMLP) for module in model.modules()) == (name == "clip")
    assert torch.allclose(result, expected, atol=1e-5) and expected.std() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_is_one_graph(name, long):
    """Captured as on a GPU, and run by torch's own operations. Cached values must not be traced again."""
    if not long:
        pytest.skip("tracing takes seconds for each model: with --long")
    build, shape = MODELS[name]
    model, x = randomise(build()), random(*shape)
    for module in model.modules():
        if hasattr(module, "relative_position_index"):
            module.relative_position_index.zero_()
    accelerate(model)
    with torch.inference_mode():
        expected = forward(model, x)
        torch._dynamo.reset()
        graphs = []
        model.compile(backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
        assert torch.allclose(forward(model, x), expected, atol=1e-6)
        assert torch.allclose(forward(model, x), expected, atol=1e-6)
    assert len(graphs) == 1


def test_a_computed_table_of_positions_gets_the_models_type():
    model = MODELS["videomae"][0]().to(torch.bfloat16)
    accelerate(model)
    assert model.trunk.embeddings.position_embeddings.dtype == torch.bfloat16


def test_the_loaded_model_is_accelerated_only_on_a_gpu(monkeypatch):
    calls = []
    monkeypatch.setattr(TorchEncoder, "accelerate", lambda self: calls.append(self.device))
    monkeypatch.setattr(encoder_class("clip"), "_load", lambda self: None)
    for device in ("cpu", "cuda", "cuda:1"):
        create("clip", device=device).load()
    assert calls == ["cuda", "cuda:1"]


def test_pixels_in_one_pass():
    """The factors and offsets for a GPU, against the plain formula."""
    batch = torch.arange(256).view(1, 1, 256, 1).repeat(1, 1, 1, 3).float()
    mean, std = frames.IMAGENET_MEAN, frames.IMAGENET_STD
    *_, offsets, factors = frames._scale(mean, std, batch.device)
    expected = frames.normalise(batch, mean, std).movedim(-3, -1)
    assert torch.allclose(torch.addcmul(offsets, batch, factors), expected, atol=1e-6)


# ----------------------------------------------------------------- precision, sizes, compiling


@pytest.fixture(params=[True, False], ids=["bf16", "no bf16"])
def has_bf16(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: request.param)
    return request.param


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_auto_is_bf16_on_a_gpu_that_has_it_except_for_published(name, has_bf16):
    for preset in encoder_class(name).presets:
        expected = "bf16" if has_bf16 and preset != "published" else "fp32"
        assert create(name, preset, device="cuda").precision == expected
        assert create(name, preset, device="cpu").precision == "fp32"
        assert create(name, preset, device="cuda", precision="bf16").dtype == torch.bfloat16


def test_another_process_computes_in_the_same_precision(has_bf16, monkeypatch):
    encoder = create("clip", device="cuda")
    arrival = ForkingPickler.loads(ForkingPickler.dumps(encoder))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not has_bf16)
    assert arrival.precision == copy.copy(encoder).precision == encoder.precision
    assert (encoder.precision == "bf16") == has_bf16


def test_tf32_needs_a_gpu_that_has_it(monkeypatch):
    with pytest.raises(ValidationError, match="cpu does not support the precision tf32; expected auto, fp32 or bf16"):
        _ = create("clip", device="cpu", precision="tf32").precision
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, has_it in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        encoder = create("clip", device="cuda", precision="tf32")
        if has_it:
            assert encoder.precision == "tf32" and encoder.dtype == torch.float32
        else:
            with pytest.raises(ValidationError, match="cuda does not support the precision tf32"):
                _ = encoder.precision


@pytest.mark.parametrize("precision, allowed", [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_on_only_if_requested_and_only_in_the_block(precision, allowed):
    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    with arithmetic("cuda:0", precision):
        assert flags() == (allowed, allowed)
    with pytest.raises(KeyError), arithmetic("cuda:0", precision):
        raise KeyError
    assert flags() == before
    with arithmetic("cpu", "fp32"):
        assert flags() == before


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_batches_are_larger_on_a_gpu(name):
    on_cpu, on_gpu = (create(name, device=device).batch_size for device in ("cpu", "cuda:0"))
    assert 1 <= on_cpu < on_gpu or name.startswith("videoswin-") and on_cpu <= on_gpu
    encoder = create(name, device="cuda:0")
    encoder.batch_size = 5
    assert ForkingPickler.loads(ForkingPickler.dumps(encoder)).batch_size == 5


def test_compiling_is_refused_where_it_cannot_pay(monkeypatch):
    with pytest.raises(ValidationError, match="cannot be compiled: the device is cpu; expected a GPU"):
        create("clip", device="cpu", compile=True).load()
    with pytest.raises(ValidationError, match="cannot be compiled: its items differ in length"):
        create("wavlm", device="cuda", compile=True).load()
    calls = []
    encoder = create("clip", device="cuda", compile=True)
    encoder.model = nn.Linear(2, 2)
    monkeypatch.setattr(type(encoder), "_load", lambda self: None)
    monkeypatch.setattr(nn.Module, "compile", lambda self: calls.append(self))
    encoder.load()
    assert calls == [encoder.model]


@pytest.mark.parametrize("device, answer", [("cpu", False), ("cuda", True), ("cuda:3", True)])
def test_which_device_is_a_gpu(device, answer):
    assert is_gpu(device) is answer


def test_a_batch_equals_its_items(monkeypatch):
    class Sum(TorchEncoder):
        modality, dim, unit = "video", 3, "frame"

        def _load(self):
            self.model = nn.Identity()

        def items(self, clip):
            return iter(())

        def forward(self, batch):
            return batch.flatten(1, 2).sum(1)

    encoder = Sum(device="cpu")
    items = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    rows = encoder.encode_batch([torch.from_numpy(item) for item in items])
    assert [tuple(row.shape) for row in rows] == [(1, 3)] * 5 and rows[0].dtype == torch.float32
    assert np.array_equal(torch.cat(rows).numpy(), encoder.encode_items(list(items)))
    assert torch_encoder.PRECISIONS[encoder.precision] == torch.float32
