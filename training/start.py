"""Where training starts: weights that already look back a few tokens, find a phrase again and copy what followed.

Random weights take thousands of steps to find this circuit (an *induction head*: Olsson et al. 2022, *In-context
Learning and Induction Heads*), and sit on shortcuts until they do. So the circuit is written into the start, and
training shapes it (as Trockman & Kolter 2023, *Mimetic Initialization*, do for other patterns):

- layer 0: each query head attends to the token a fixed distance back, and writes a code of it into its own subspace;
- layer 1: the same with softer, wider windows, for training to make phrases of;
- layer 2: a position looks for one behind which the same codes stand, and its heads together copy the token there.

Codes lie in the rotary pairs that turn too slowly to notice 2,048 positions. Every other matrix starts as usual.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.llama import Attention, Config, Llama

CONSTANT = 0
"""The component of every embedding that is the same for all tokens: a head that looks only at distance reads it."""
CONSTANT_SIZE = 4.7  # what it is after normalisation
EMBEDDING = 0.03
CODE = 32  # components of a token's code
BACK = (0, 1, 2, 3, 4, 5, 6, 7)
WINDOWS = (2, 3, 4, 6, 8, 10, 12, 15)


def start(model: Llama, seed: int) -> None:
    """Rewrites the weights of a new model in place."""
    c, random = model.c, torch.Generator().manual_seed(seed)
    near, wide, match = (layer.self_attn for layer in list(model.model["layers"])[:3])
    code, subspaces = _frame(c, CODE, random), _frame(c, len(BACK) * CODE - 1, random)
    places = [subspaces[:, i * CODE : (i + 1) * CODE] for i in range(len(BACK))]
    with torch.no_grad():
        table = model.model["embed_tokens"].weight
        table.normal_(0, EMBEDDING, generator=random)
        table.mul_(EMBEDDING * c.hidden_size**0.5 / table.norm(dim=1, keepdim=True))  # equal norms, equal CONSTANT
        table[:, CONSTANT] = 5 * EMBEDDING
        for attention in (near, wide, match):
            attention.q_proj.weight.mul_(0.1)
            attention.k_proj.weight.mul_(0.1)
        _look_back(near, c, BACK, sharpness=12.0)
        _write_codes(near, c, code, places)
        _look_back(wide, c, WINDOWS, sharpness=1.5)
        wide.o_proj.weight.normal_(0, 0.003, generator=random)
        _match(match, c, code, places, random)
        _copy(match, c, random)


def _frame(c: Config, columns: int, random: torch.Generator) -> Tensor:
    """[hidden, columns] with orthonormal columns that leave CONSTANT alone."""
    frame = torch.zeros(c.hidden_size, columns)
    frame[1:] = torch.linalg.qr(torch.randn(c.hidden_size - 1, columns, generator=random))[0]
    return frame


def _by_head(weight: Tensor, c: Config) -> Tensor:
    """A view [heads, head dim, hidden] of q, k or v weights."""
    return weight.view(-1, c.head_dim, c.hidden_size)


def _look_back(attention: Attention, c: Config, distances: tuple[int, ...], sharpness: float) -> None:
    """Query head h attends distances[h] back: its scores are sharpness * sum of cos(w * (distance - distances[h]))."""
    half, fast = c.head_dim // 2, slice(0, c.head_dim // 8)
    size = (sharpness * c.head_dim**0.5) ** 0.5 / CONSTANT_SIZE
    w = c.rope_theta ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim)
    q, k = _by_head(attention.q_proj.weight, c), _by_head(attention.k_proj.weight, c)
    k[:, fast, CONSTANT] = size
    for head, distance in enumerate(distances):
        q[head, fast, CONSTANT] = size * torch.cos(w * distance)[fast]
        q[head, half:, CONSTANT][fast] = -size * torch.sin(w * distance)[fast]


def _write_codes(attention: Attention, c: Config, code: Tensor, places: list[Tensor]) -> None:
    _by_head(attention.v_proj.weight, c)[:, :CODE] = code.T
    o = attention.o_proj.weight.view(c.hidden_size, c.num_attention_heads, c.head_dim)
    for head, place in enumerate(places):
        o[:, head, : place.shape[1]] = 2.5 * EMBEDDING * place


def _match(attention: Attention, c: Config, code: Tensor, places: list[Tensor], random: torch.Generator) -> None:
    """Scores count the codes that a key has before it and the query has at or before it.

    Key heads see more and more of them. The query's code at distance d is to be the key's at d + 1; odd heads want
    each at its own distance, even ones take them in any order.
    """
    eighth = c.head_dim // 4
    slow = torch.cat((torch.arange(eighth, 2 * eighth), torch.arange(3 * eighth, 4 * eighth)))
    turns = [torch.linalg.qr(torch.randn(CODE, CODE, generator=random))[0] for _ in BACK]
    q, k = _by_head(attention.q_proj.weight, c), _by_head(attention.k_proj.weight, c)
    repeat = c.num_attention_heads // c.num_key_value_heads
    for head, (reach, ordered) in enumerate(((2, True), (7, False), (4, True), (5, False))):
        for i in range(reach):
            turn = (turns[i] if ordered else turns[0]) * ((2.0 if ordered else 1.9) / reach**0.5)
            k[head, slow] += _narrow(turn, places[i + 1])
            for j in range(repeat):
                q[head * repeat + j, slow] += _narrow(turn, places[i])


def _narrow(turn: Tensor, frame: Tensor) -> Tensor:
    return turn[:, : frame.shape[1]] @ frame.T


def _copy(attention: Attention, c: Config, random: torch.Generator) -> None:
    """The key heads share out the token's embedding; all query heads together write it back."""
    basis = torch.zeros(c.hidden_size, c.hidden_size)
    basis[1:, 1:] = torch.linalg.qr(torch.randn(c.hidden_size - 1, c.hidden_size - 1, generator=random))[0]
    slices = basis.view(c.num_key_value_heads, c.head_dim, c.hidden_size)
    _by_head(attention.v_proj.weight, c)[:] = slices
    repeat = c.num_attention_heads // c.num_key_value_heads
    o = attention.o_proj.weight.view(c.hidden_size, c.num_attention_heads, c.head_dim)
    for head in range(c.num_attention_heads):
        o[:, head] = 0.12 * slices[head // repeat].T
