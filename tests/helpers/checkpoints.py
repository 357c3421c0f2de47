"""Tiny random-weight checkpoints in Hugging Face layout, written by mlx-lm's own model code."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

VOCAB = 512


@dataclass(frozen=True)
class Spec:
    """What a tiny checkpoint is made of. `bos`: its tokenizer puts a leading token before plain text."""

    architecture: str = "llama"
    head_dim: int = 64
    tied: bool = True
    bos: bool = True
    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    context: int = 4096
    seed: int = 0
    extra: tuple[tuple[str, object], ...] = ()

    @property
    def kind(self) -> str:
        """What it has beside full attention."""
        if self.architecture == "lfm2":
            return "recurrent"
        return "window" if "sliding_window" in dict(self.extra) else "full"

    @property
    def name(self) -> str:
        return (
            f"{self.architecture}-{self.head_dim}-{'tied' if self.tied else 'untied'}-{'bos' if self.bos else 'nobos'}"
        )


ALL = (
    Spec("llama", 64, tied=True, bos=True),
    Spec("llama", 128, tied=False, bos=False),
    Spec("qwen2", 64, tied=True, bos=False),
    Spec("qwen2", 128, tied=False, bos=True),
    Spec("qwen3", 64, tied=False, bos=True),
    Spec("qwen3", 128, tied=True, bos=False),
)


WINDOWED = Spec(extra=(("layer_types", ("sliding_attention", "full_attention")), ("sliding_window", 100)))
RECURRENT = Spec("lfm2", width=256, bos=False)
KINDS = (ALL[0], WINDOWED, RECURRENT)
"""One of each kind of layers; every model has full attention as well."""


def _lfm2(spec: Spec) -> dict[str, object]:
    """A short convolution before a layer of attention; the head dim follows from the width."""
    return {
        "norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "block_dim": spec.width,
        "block_ff_dim": 2 * spec.width, "block_multiple_of": 32, "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False, "hidden_size": spec.heads * spec.head_dim,
        "layer_types": ["conv", "full_attention"],
    }  # fmt: skip


def write(folder: Path, spec: Spec) -> Path:
    """Writes the checkpoint and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": spec.architecture,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "intermediate_size": 2 * spec.width,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "rope_theta": 10000.0,
        "max_position_embeddings": spec.context,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": 0,
        "eos_token_id": 4,
        **(_lfm2(spec) if spec.architecture == "lfm2" else {}),
        **dict(spec.extra),
    }
    if spec.architecture == "qwen2":  # takes its head dim from the width
        config["hidden_size"] = spec.heads * spec.head_dim
        del config["head_dim"]
    module = importlib.import_module(f"mlx_lm.models.{spec.architecture}")
    mx.random.seed(spec.seed)
    network = module.Model(module.ModelArgs.from_dict(config))
    # Livelier than mlx's initial weights: greedy output then depends on the whole context.
    network.update(tree_map(lambda a: a * 2.0 if a.ndim == 2 else a, network.parameters()))
    weights = dict(tree_flatten(network.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(folder, spec.bos)
    return folder


def _write_tokenizer(folder: Path, bos: bool) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    specials = ["<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "the quick brown fox jumps over the lazy dog and the memory of an agent is what remains of it "
    tokenizer.train_from_iterator([text * 3], trainer)
    missing = VOCAB - tokenizer.get_vocab_size()
    tokenizer.add_tokens([f"<unused{i}>" for i in range(missing)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", 0)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    start = "{{ bos_token }}" if bos else ""
    template = (
        start + "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def with_other_weights(folder: Path, to: Path, spec: Spec) -> Path:
    """The same shape and tokenizer, other weights."""
    from dataclasses import replace

    write(to, replace(spec, seed=spec.seed + 1))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / file, to / file)
    return to
