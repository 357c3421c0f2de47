"""Loads a checkpoint through mlx-lm, refuses what is not covered, and says what each layer got."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_lm_utils
from mlx_lm.models.rope_utils import DynamicNTKScalingRoPE

from agentmem.errors import AgentmemError, Reason
from agentmem.kv import attention
from agentmem.kv.layout import AttentionLayout, LayerKind, RecurrentLayout, StateLayout, WindowLayout
from agentmem.model import identity, numerics
from agentmem.model.digests import FileDigests
from agentmem.model.grammar import Grammars
from agentmem.model.prefill import choose
from agentmem.model.text import TextCodec
from agentmem.types import PrefillPath

COVERED = {
    "llama": {"full_attention", "sliding_attention"},
    "qwen2": {"full_attention"},
    "qwen3": {"full_attention"},
    "lfm2": {"full_attention", "conv"},
}
"""mlx-lm architectures whose attention has no sinks and goes through the seam, and the kinds of layers of each."""


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint ready to run on the executor thread."""

    name: str
    architecture: str
    network: nn.Module
    text: TextCodec
    grammars: Grammars
    layout: StateLayout
    state_id: str
    tokenizer_id: str
    context_limit: int
    vocab_size: int
    numerics: str
    prefill: PrefillPath
    bytes: int


def embedded_path() -> Path:
    """The folder of the model that ships with agentmem."""
    return Path(str(resources.files("agentmem.model") / "embedded"))


def load(
    spec: str | None,
    digests: FileDigests | None = None,
    prefill: PrefillPath = PrefillPath.AUTO,
    measured: Path | None = None,
) -> LoadedModel:
    """Loads a folder or a Hugging Face id; None is the embedded model. Call it on the executor thread.

    digests: of weight files that were loaded before. prefill: the path that is wanted; AUTO may measure, and keeps what
    it found in the file `measured`.

    Raises AgentmemError: MODEL_NOT_FOUND, or MODEL_UNSUPPORTED naming the layer and why.
    """
    if numerics.device() == "cpu":
        mx.disable_compile()  # fused kernels would depend on a C++ compiler being there, and so would bits
    folder = _folder(spec)
    try:
        config = mlx_lm_utils.load_config(folder)
        architecture = _architecture(config)
        network, config = mlx_lm_utils.load_model(folder, lazy=True)
        tokenizer = mlx_lm_utils.load_tokenizer(folder, eos_token_ids=config.get("eos_token_id"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentmemError(
            Reason.MODEL_NOT_FOUND, f"{folder} does not hold a checkpoint that mlx-lm can load ({type(error).__name__})"
        ) from error
    stored = _stored_dtype(network)
    dtype = numerics.compute_dtype(stored)
    if dtype != stored:
        network.set_dtype(dtype)
    mx.eval(network.parameters())
    network.eval()
    attention.install()
    layout = _layout(network, dtype)
    in_force = numerics.path(dtype)
    if in_force == numerics.REFERENCE:
        _lay_out(network)
    path = choose(prefill, _heads(network), layout.full, in_force, measured)
    text, vocab_size = TextCodec(tokenizer), _vocab_size(network)
    return LoadedModel(
        name=spec or "embedded",
        architecture=architecture,
        network=network,
        text=text,
        grammars=Grammars(tokenizer, text.eos_ids, vocab_size),
        layout=layout,
        state_id=identity.state_id(
            sorted(folder.glob("model*.safetensors")), config, str(dtype), layout.policy, digests
        ),
        tokenizer_id=identity.tokenizer_id(tokenizer._tokenizer),
        context_limit=int(config.get("max_position_embeddings") or 32768),
        vocab_size=vocab_size,
        numerics=numerics.FAST if path is PrefillPath.FUSED else in_force,
        prefill=path,
        bytes=sum(a.nbytes for a in _arrays(network)),
    )


def _folder(spec: str | None) -> Path:
    if spec is None:
        return embedded_path()
    local = Path(spec).expanduser()
    if local.exists():
        return local
    try:
        return mlx_lm_utils._download(spec)
    except Exception as error:  # the hub's client raises many kinds, none of them ours
        raise AgentmemError(
            Reason.MODEL_NOT_FOUND,
            f"{spec} is neither a folder nor a model that could be fetched from the hub ({type(error).__name__}); "
            "check the name, the network, and access rights",
        ) from error


def _architecture(config: dict[str, Any]) -> str:
    """The mlx-lm module that serves this config. MODEL_UNSUPPORTED, naming the first layer that is not covered."""
    kind = str(config.get("model_type"))
    module = mlx_lm_utils.MODEL_REMAPPING.get(kind, kind)
    if module not in COVERED:
        raise _unsupported(f"layer 0 of this model is a {kind} layer", f"only {', '.join(COVERED)} layers are")
    layers = (config.get("text_config") or config).get("layer_types") or []
    odd = next((i for i, t in enumerate(layers) if t not in COVERED[module]), None)
    if odd is not None:
        covered = ", ".join(sorted(COVERED[module]))
        raise _unsupported(f"layer {odd} of this {kind} model is of kind {layers[odd]}", f"only {covered} is")
    if layers and "full_attention" not in layers:
        raise _unsupported(
            f"all layers of this {kind} model are of kind {layers[0]}", "only models with full attention are"
        )
    return module


def _layout(network: nn.Module, dtype: mx.Dtype) -> StateLayout:
    """What every layer gets; refuses the first layer that differs from others of its kind, or cannot be stored."""
    kinds = tuple(_kind(layer) for layer in network.layers)
    of_kind = {kind: [i for i, k in enumerate(kinds) if k is kind] for kind in LayerKind}
    full, window, recurrent = (of_kind[kind] for kind in (LayerKind.FULL, LayerKind.WINDOW, LayerKind.RECURRENT))
    attention_layout = _attention(network, full, dtype)
    windowed = vars(_attention(network, window, dtype)) if window else None
    return StateLayout(
        kinds,
        attention_layout,
        WindowLayout(**windowed, window=int(network.model.sliding_window)) if windowed else None,
        _recurrent(network, recurrent, dtype) if recurrent else None,
    )


def _kind(layer: nn.Module) -> LayerKind:
    if not hasattr(layer, "self_attn"):
        return LayerKind.RECURRENT
    return LayerKind.WINDOW if getattr(layer, "use_sliding", False) else LayerKind.FULL


def _attention(network: nn.Module, places: list[int], dtype: mx.Dtype) -> AttentionLayout:
    """places: of the layers of one kind."""
    first = network.layers[places[0]].self_attn
    head_dim = getattr(first, "head_dim", None) or first.k_proj.weight.shape[0] // first.n_kv_heads
    for i in places:
        layer = network.layers[i]
        if isinstance(getattr(layer.self_attn, "rope", None), DynamicNTKScalingRoPE):
            raise _unsupported(f"layer {i} uses dynamic RoPE, which moves stored keys", "fixed frequencies are")
        if layer.self_attn.n_kv_heads != first.n_kv_heads:
            raise _unsupported(f"layer {i} has another number of KV heads than layer {places[0]}", "equal layers are")
    group = AttentionLayout.group_size_for(head_dim)
    if group is None:
        raise _unsupported(
            f"layer {places[0]} has head dim {head_dim}, for which no 4-bit group size exists", "multiples of 32 are"
        )
    return AttentionLayout(len(places), first.n_kv_heads, head_dim, group, dtype)


def _lay_out(network: nn.Module) -> None:
    """Puts the weights of linear layers into the order in which the wheel's BLAS reads them 2.3 times faster.

    It takes the same products and sums them in the same order, so that no bit changes. Not so where there is a bias,
    from which it would then begin to sum.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear) and "bias" not in module:
            module.weight = mx.contiguous(module.weight.T).T
            mx.eval(module.weight)


def _heads(network: nn.Module) -> int:
    """Query heads of the first attention layer."""
    return int(next(layer.self_attn.n_heads for layer in network.layers if hasattr(layer, "self_attn")))


def _recurrent(network: nn.Module, places: list[int], dtype: mx.Dtype) -> RecurrentLayout:
    """Short convolutions (lfm2): the inputs that the next position sees."""
    convolution = network.layers[places[0]].conv
    return RecurrentLayout(len(places), ((convolution.L_cache - 1, network.args.hidden_size),), dtype)


def _unsupported(what: str, covered: str) -> AgentmemError:
    return AgentmemError(Reason.MODEL_UNSUPPORTED, f"{what}, which is not covered yet; {covered}")


def _stored_dtype(network: nn.Module) -> mx.Dtype:
    """The dtype of the norms: quantised weights keep their scales in it too."""
    floats = (mx.float16, mx.bfloat16, mx.float32)
    return next((a.dtype for a in _arrays(network) if a.dtype in floats), mx.float32)


def _arrays(network: nn.Module) -> list[mx.array]:
    return [array for _, array in cast("list[tuple[str, mx.array]]", tree_flatten(network.parameters()))]


def _vocab_size(network: nn.Module) -> int:
    """Rows of the embedding table: an id behind it reads past the table."""
    return int(network.model.embed_tokens.weight.shape[0])
