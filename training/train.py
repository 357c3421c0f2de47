"""Trains the embedded model: `python -m training.train --out build/embedded`. Resumes where it stopped.

Samples are conversations, and some random runs that repeat. They grow longer as time passes, and skip positions, so
that short ones show long distances as well.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from training import tokenizer as tok
from training.corpus import paragraphs
from training.llama import Config, Llama
from training.samples import FIRST, LEAD, NOISE, VALUE, Mix, Sampler
from training.start import start

WEIGHTS = torch.zeros(FIRST + 1).index_put_(
    (torch.tensor([NOISE, LEAD, VALUE, FIRST]),), torch.tensor([0.2, 1, 1, 6.0])
)
"""What a scored position counts: the first token of a value is where recall is decided."""
EMBEDDING_RATE = 0.3
"""The embedding's learning rate, over that of the matrices."""


@dataclass
class Plan:
    """Where training stands. What a step sees depends on `progress`, the share of the time that has passed."""

    step: int = 0
    seconds: float = 0.0
    progress: float = 0.0

    def length(self, rng: random.Random) -> int:
        """Short rows first; long ones cost more a token, and come last."""
        if self.progress < 0.3:
            return rng.choices([256, 512], [3, 1])[0]
        shares = [3, 4, 2, 1] if self.progress < 0.8 else [1, 2, 3, 4]
        return rng.choices([256, 512, 1024, 2048], shares)[0]

    def mix(self) -> Mix:
        return Mix(noise=0.1, dense=0.8 if self.progress < 0.5 else 0.6)

    def rounds_state(self, rng: random.Random) -> bool:
        """Whether this step's keys and values are rounded as 4-bit storage will round them."""
        return rng.random() < (0.4 if self.progress < 0.5 else 0.9)

    def rate(self) -> float:
        """Share of the full learning rate: a short warm-up, full to 0.4 of the time, then down in a straight line."""
        return min(1.0, (self.step + 1) / 100, max(0.02, (1 - self.progress) / 0.6))


def skipping_positions(count: int, length: int, limit: int, rng: random.Random) -> np.ndarray:
    """Positions [count, length] with up to four gaps a row: short samples then show long distances (PoSE, Zhu 2023)."""
    steps = np.ones((count, length), np.int64)
    steps[:, 0] = 0
    for row in steps:
        spare = rng.randint(0, limit - length) if rng.random() < 0.7 else 0
        cuts = sorted(rng.randint(0, spare) for _ in range(rng.randint(0, 3)))
        for gap in np.diff([0, *cuts, spare]):
            row[rng.randint(0, length - 1)] += gap
    return steps.cumsum(1)


def value_accuracy(predicted: np.ndarray, wanted: np.ndarray, marks: np.ndarray) -> tuple[int, int]:
    """(whole values right, values) of flat teacher-forced predictions at scored positions."""
    right = total = 0
    ok: bool | None = None
    for p, w, m in zip(predicted, wanted, marks, strict=True):
        if m == FIRST and ok is not None:
            right, total, ok = right + ok, total + 1, None
        if m >= VALUE:
            ok = (ok is None or ok) and p == w
        elif ok is not None:
            right, total, ok = right + ok, total + 1, None
    if ok is not None:
        right, total = right + ok, total + 1
    return int(right), total


def optimizers(model: Llama, rate: float) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def main() -> None:
    args = _arguments()
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "tokenizer.json").exists():
        tok.save(tok.train(args.seed), args.out, Config().max_position_embeddings)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    rng = random.Random(args.seed)
    prose = [e.ids for e in tokenizer.encode_batch([" " + p for p in paragraphs()], add_special_tokens=False)]
    model, plan = Llama(Config()), Plan()
    start(model, args.seed)
    opts = optimizers(model, args.rate)
    state = args.out / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=False)
        model.load_state_dict(saved["model"])
        plan = Plan(**saved["plan"])
        for o, s in zip(opts, saved["opts"], strict=True):
            o.load_state_dict(s)
        rng.seed(args.seed + plan.step)
    sampler = Sampler(tokenizer, prose, rng)
    began, budget = time.monotonic() - plan.seconds, args.minutes * 60
    tally = Tally()
    while plan.seconds < budget:
        length = plan.length(rng)
        count = max(1, args.tokens // length)
        ids, marks = sampler.batch(count, length, plan.mix())
        positions = skipping_positions(count, length - 1, Config().max_position_embeddings, rng)
        tally += _step(model, opts, ids, marks, positions, args.rate * plan.rate(), plan.rounds_state(rng))
        plan.step += 1
        plan.seconds = time.monotonic() - began
        plan.progress = plan.seconds / budget
        if plan.step % 50 == 0:
            print(json.dumps({"step": plan.step, "s": round(plan.seconds), **tally.summary()}), flush=True)
            tally = Tally()
        if plan.step % 250 == 0:
            _save(state, model, plan, opts)
    _save(state, model, plan, opts)


@dataclass
class Tally:
    """Sums over steps: loss, whole values right, values asked for."""

    loss: float = 0.0
    right: int = 0
    values: int = 0
    steps: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def summary(self) -> dict[str, float]:
        return {"loss": round(self.loss / self.steps, 4), "recall": round(self.right / max(1, self.values), 4),
                "values": self.values}  # fmt: skip


def _step(
    model: Llama,
    opts: list,
    ids: np.ndarray,
    marks: np.ndarray,
    positions: np.ndarray,
    rate: float,
    q4: bool,
) -> Tally:
    x, m = torch.from_numpy(ids), torch.from_numpy(marks)
    flat = m[:, 1:].reshape(-1)
    where = flat.nonzero()[:, 0]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(x[:, :-1], torch.from_numpy(positions), q4).reshape(-1, model.c.hidden_size)[where]
        logits = model.logits(hidden).float()
    wanted = x[:, 1:].reshape(-1)[where]
    losses = F.cross_entropy(logits, wanted, reduction="none")
    weight = WEIGHTS[flat[where].long()]
    loss = (losses * weight).sum() / weight.sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o, scale in zip(opts, (1.0, EMBEDDING_RATE), strict=True):
        for g in o.param_groups:
            g["lr"] = rate * scale
        o.step()
        o.zero_grad(set_to_none=True)
    right, values = value_accuracy(logits.argmax(-1).numpy(), wanted.numpy(), flat[where].numpy())
    return Tally(float(loss.detach()), right, values, steps=1)


def _save(path: Path, model: Llama, plan: Plan, opts: list) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "plan": asdict(plan), "opts": [o.state_dict() for o in opts]}, temporary)
    temporary.replace(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/embedded"))
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
