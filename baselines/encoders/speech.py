"""HuBERT, WavLM and any audio model of Hugging Face: a whole sound in, about 50 rows per second out.

Large speech models were trained on sound at 16 kHz that is normalised as a whole, with `layer_norm`: minus its mean,
divided by √(variance + ε). ε is 1e-5 in the models' own code (fairseq, MIT; unilm, MIT) and in the challenge's
features: preset `published`. The extractor that comes with the weights on the hub uses 1e-7, which also brings quiet
voices to full level: preset `reference`.

A row sees 400 samples directly and all others through attention; the next row starts 320 samples later. On the CPU,
sounds are encoded one at a time. On a GPU, sounds of similar length are encoded together, with padding that is masked
for every row. Models that normalise over time in their first layer (HuBERT Base) would still see the padding, so they
take one sound at a time there, too. A sound shorter than 400 samples is normalised, then padded with silence, and gives
one row. The memory of attention grows with the square of the rows: a sound of more than 2000 rows (40 s) is normalised
as a whole, then encoded in even pieces of at most that length, with the same number of rows in total.

`layers`, such as 6-12: the mean of these layers' outputs, counted from 1, without any final norm, so that all have the
same scale. The default is the model's own output: the last layer's, which models of this size normalise once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    ASTFeatureExtractor,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    WavLMModel,
    WhisperFeatureExtractor,
)

from blemore.errors import Problem, ValidationError
from blemore_baselines.clips.media import SAMPLE_RATE, Clip, MediaError
from blemore_baselines.encoders.torch_encoder import TorchEncoder, inference, is_gpu, moved
from blemore_baselines.encoders.weights import folder_name, pretrained, quiet

if TYPE_CHECKING:
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

FIELD, HOP = 400, 320  # samples: those that a row sees, and from one row to the next
PIECE = 2000  # rows
SHORTEST = 0.8  # shortest sound in a batch, as a share of the longest
MOST = 8_000_000  # rows × rows, summed over the sounds of a batch: the memory of attention grows with it
EPSILON = {"published": 1e-5, "reference": 1e-7}
# The embedding of masked sound. It can be missing from the checkpoint or the model, and is not used here.
MASK = r"masked_spec_embed$"


class Speech(TorchEncoder, abstract=True):
    """An encoder whose model turns a waveform into one row per 20 ms."""

    modality = "audio"
    unit = "20 ms"
    rows = "1 + (samples - 400) // 320 at 16 kHz, at least 1: 1 s gives 49, 5 s give 249"
    presets: tuple[str, ...] = ("published", "reference")
    packages = (*TorchEncoder.packages, "soxr")
    cpu_batch_size, gpu_batch_size, has_one_shape = 1, 32, False
    model_class: type
    model: PreTrainedModel

    def __init__(
        self,
        preset: str | None = None,
        weights: str | Path | None = None,
        *,
        layers: str | None = None,
        **options: Any,
    ):
        super().__init__(preset, weights, **options)
        self.layers = parse_layers(layers) if layers else None

    @cached_property
    def revision(self) -> str:
        return super().revision + (f"-layers{self.layers[0]}-{self.layers[-1]}" if self.layers else "")

    def _load(self) -> None:
        model = pretrained(self.model_class, self.checkpoint, optional=MASK, unused=MASK, dtype=self.dtype)
        self.model = model.eval().to(self.device)
        self._check_layers()

    def _check_layers(self) -> None:
        depth = self.model.config.num_hidden_layers
        if self.layers and self.layers[-1] > depth:
            message = f"has no layer {self.layers[-1]}; expected 1 to {depth}"
            raise ValidationError(Problem("unknown-layer", f"encoder {self.name!r}", message))

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        return pieces(normalised(clip.audio(), EPSILON[self.preset]))

    def forward(self, batch: torch.Tensor, lengths: Sequence[int] | None = None) -> torch.Tensor:
        """lengths: of the sounds in samples, if they are padded to the longest"""
        mask = None
        if lengths and min(lengths) < batch.shape[1]:
            mask = torch.arange(batch.shape[1]) < torch.tensor(lengths)[:, None]
            mask = mask.to(self.device, non_blocking=True).long()
        return self._rows(self.model(batch, attention_mask=mask, output_hidden_states=self.layers is not None))

    @inference
    def encode_batch(self, items: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        rows: dict[int, torch.Tensor] = {}
        for group in self._groups([len(item) for item in items]):
            lengths = [len(items[index]) for index in group]
            batch = torch.zeros(len(group), max(lengths), pin_memory=is_gpu(self.device))
            for place, index in zip(batch, group):
                place[: len(items[index])] = items[index]
            output = self.forward(moved(batch, self.device).to(self.dtype), lengths).float()
            rows |= {index: row[: rows_of(length)] for index, row, length in zip(group, output, lengths)}
        return [rows[index] for index in range(len(items))]

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """The indices of sounds that are encoded together, by their lengths in samples."""
        if getattr(self.model.config, "feat_extract_norm", None) != "layer":
            return [[index] for index in range(len(lengths))]
        return like_lengths(lengths)

    def _rows(self, output) -> torch.Tensor:
        if self.layers is None:
            return output.last_hidden_state  # hidden_states[-1] would lack the last norm
        layers = [output.hidden_states[layer] for layer in self.layers]  # [0] is the input of layer 1
        return torch.stack(layers).float().mean(dim=0)


class Hubert(Speech):
    name = "hubert"
    dim = 1024
    weights = "facebook/hubert-large-ll60k"
    licence = "Apache 2.0"
    model_class = HubertModel


class WavLM(Speech):
    name = "wavlm"
    dim = 1024
    weights = "microsoft/wavlm-large"
    licence = "see the model's page, which points to that of github.com/microsoft/UniSpeech"
    model_class = WavLMModel

    def accelerate(self) -> None:
        from transformers.models.wavlm.modeling_wavlm import WavLMAttention

        super().accelerate()
        for module in list(self.model.modules()):
            for name, part in list(module.named_children()):
                if isinstance(part, WavLMAttention):
                    module.add_module(name, GatedAttention(part))


class HFAudio(Speech):
    """Any audio model on the hub or in a local folder, with its own preprocessing and its own rows.

    Of a model with an encoder and a decoder, only the encoder is used. Sound is resampled to the model's rate. If a
    model pads each sound with silence to a fixed length, as Whisper does (30 s), only the rows of the sound are kept,
    and a longer sound is refused. Code in the model's folder is never run.
    """

    name = "hf-audio"
    weights = "https://huggingface.co/models"
    licence = "see the model's page"
    unit = "step"
    rows = "as many as the model gives"
    presets: tuple[str, ...] = ("reference",)

    def __init__(self, preset: str | None = None, *, weights: str | Path, **options: Any):
        super().__init__(preset, weights, **options)
        self.name = f"{self.name}_{folder_name(weights)}"
        self.weights = str(weights)

    @cached_property
    def dim(self) -> int:
        config = self._settings(AutoConfig)
        if not hasattr(config, "hidden_size"):
            raise self._refusal(f"{type(config).__name__} has no hidden_size")
        return config.hidden_size

    def _settings(self, kind):
        try:
            with quiet():
                return kind.from_pretrained(self.checkpoint, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise self._refusal(str(error).strip().partition("\n")[0]) from error

    def _refusal(self, reason: str) -> ValidationError:
        return ValidationError(Problem("bad-weights", str(self.checkpoint), f"not a usable audio model: {reason}"))

    def _load(self) -> None:
        self.extractor = self._settings(AutoFeatureExtractor)
        # The checkpoint may also hold a head for another task.
        model = pretrained(AutoModel, self.checkpoint, optional=MASK, unused=".", dtype=self.dtype)
        self.model = (model.get_encoder() if model.config.is_encoder_decoder else model).eval().to(self.device)
        self._check_layers()

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        rate, sound = self.extractor.sampling_rate, clip.audio()
        if rate != SAMPLE_RATE:
            sound = soxr.resample(sound, SAMPLE_RATE, rate, quality="HQ")
        longest = longest_sound(self.extractor)
        if longest and len(sound) > longest:
            raise MediaError(
                "too-long",
                self.name,
                f"{len(sound) / rate:.1f} s of sound; expected at most {longest / rate:.1f} s, the model's limit",
            )
        yield sound

    @inference
    def encode_batch(self, items: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [self._encode_sound(item.numpy()) for item in items]

    def _encode_sound(self, sound: np.ndarray) -> torch.Tensor:
        """(T, dim) float32 on the device."""
        name = self.model.main_input_name
        inputs = self.extractor(filled(sound), sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        inputs = inputs.to(self.device, self.dtype)
        if inputs[name].ndim == 2 and getattr(self.model.config, "conv_stride", None) == HubertConfig().conv_stride:
            parts = [{name: part[None]} for part in pieces(inputs[name][0])]
        else:
            parts = [inputs]
        outputs = (self.model(**part, output_hidden_states=self.layers is not None) for part in parts)
        rows = torch.cat([self._rows(output)[0] for output in outputs])
        if isinstance(self.extractor, WhisperFeatureExtractor):
            rows = rows[: -(-len(rows) * len(sound) // self.extractor.n_samples)]
        return rows.float()


class GatedAttention(nn.Module):
    """WavLM's attention with torch's fused kernel. The original holds the weights of all heads in memory."""

    def __init__(self, own: WavLMAttention):
        super().__init__()
        self.own = own

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None, torch.Tensor]:
        """hidden_states (B, T, width); attention_mask (B, T), not 1 at padding; position_bias (1, heads, T, T or more),
        from the first layer to the others.
        """
        own, length = self.own, hidden_states.shape[1]
        if position_bias is None:
            wide = -(-length // 8) * 8  # the kernel copies the bias unless its lines are a multiple of 8
            position_bias = own.compute_bias(length, wide)[None].contiguous()
        x = hidden_states.unflatten(-1, (own.num_heads, -1)).transpose(1, 2)
        gate, reset = own.gru_rel_pos_linear(x).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        bias = (gate * (reset * own.gru_rel_pos_const - 1) + 2) * position_bias
        if attention_mask is not None:
            bias[..., :length].masked_fill_(attention_mask[:, None, None] != 1, float("-inf"))
        q, k, v = (
            project(hidden_states).unflatten(-1, (own.num_heads, -1)).transpose(1, 2)
            for project in (own.q_proj, own.k_proj, own.v_proj)
        )
        x = scaled_dot_product_attention(q, k, v, attn_mask=bias[..., :length])
        return own.out_proj(x.transpose(1, 2).flatten(2)), None, position_bias


def longest_sound(extractor) -> int | None:
    """The number of samples after which an extractor silently drops the rest; None: no limit."""
    if isinstance(extractor, WhisperFeatureExtractor):
        return extractor.n_samples
    if isinstance(extractor, ASTFeatureExtractor):  # spectra of 25 ms, every 10 ms
        return round((0.025 + 0.01 * (extractor.max_length - 1)) * extractor.sampling_rate)
    return None


def normalised(sound: np.ndarray, epsilon: float) -> np.ndarray:
    """The sound at mean 0 and (nearly) deviation 1, float32, padded with silence to at least `FIELD` samples."""
    sound = sound.astype(np.float64)
    return filled(((sound - sound.mean()) / np.sqrt(sound.var() + epsilon)).astype(np.float32))


def filled(sound: np.ndarray) -> np.ndarray:
    return np.pad(sound, (0, max(0, FIELD - len(sound))))


def pieces(sound: np.ndarray) -> Iterator[np.ndarray]:
    """A sound as it is, or in even pieces of at most `PIECE` rows. The samples of a row stay in one piece."""
    rows = rows_of(len(sound))
    cuts = np.linspace(0, rows, -(-rows // PIECE) + 1).astype(int)
    for first, end in zip(cuts[:-1], cuts[1:]):
        yield sound[first * HOP : (end - 1) * HOP + FIELD]


def rows_of(samples: int) -> int:
    return 1 + (samples - FIELD) // HOP


def like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Groups of indices of similar lengths, the longest first, to be padded to the same length.

    >>> like_lengths([16_000, 80_000, 79_000, 14_000])
    [[1, 2], [0, 3]]
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[groups[-1][0]] if groups else 0
        if lengths[index] < SHORTEST * longest or not longest or (len(groups[-1]) + 1) * rows_of(longest) ** 2 > MOST:
            groups.append([])
        groups[-1].append(index)
    return groups


def parse_layers(text: str) -> range:
    """
    >>> parse_layers("6-12"), parse_layers("9")
    (range(6, 13), range(9, 10))
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        message = f"{text!r}; expected one layer, or the first and the last, such as 6-12, counted from 1"
        raise ValidationError(Problem("bad-layers", "layers", message))
    return range(first, last + 1)
