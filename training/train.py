"""Trains the embedded model: `python -m training.train --out build/embedded`. Resumes where it stopped.

Half of the first samples are random runs that repeat, which is what makes induction heads form; the rest
are conversations. The length grows by a curriculum whenever recall of whole values passes the bar.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

from training import tokenizer as tok
from training.corpus import paragraphs
from training.llama import Config, Llama
from training.samples import FIRST, LEAD, NOISE, VALUE, Mix, Sampler

LENGTHS = [64, 256, 512, 2048]
WEIGHTS = torch.zeros(FIRST + 1).index_put_(
    (torch.tensor([NOISE, LEAD, VALUE, FIRST]),), torch.tensor([0.2, 1, 1, 6.0])
)
"""What a scored position counts: the first token of a value is where recall is decided."""
BAR = 0.85  # share of values recalled whole before the length grows


@dataclass
class Plan:
    """Where training stands. `stage` indexes LENGTHS; `mix` grows as the stages pass."""

    step: int = 0
    stage: int = 0
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)

    def length(self, rng: random.Random) -> int:
        """The longest length reached, or at the end all lengths, the cheap ones more often."""
        if self.stage < len(LENGTHS) - 1:
            return LENGTHS[self.stage]
        return rng.choices([256, 512, 1024, 2048], [25, 30, 25, 20])[0]

    def mix(self) -> Mix:
        return Mix(noise=0.5 if self.stage < 1 else 0.15, dense=0.8 if self.stage < 3 else 0.6)


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
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
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
    opts = optimizers(model, args.rate)
    state = args.out / "state.pt"
    if args.init and not state.exists():
        model.load_state_dict({name: weight.float() for name, weight in load_file(args.init).items()})
        plan.stage = len(LENGTHS) - 1
    if state.exists():
        saved = torch.load(state, weights_only=False)
        model.load_state_dict(saved["model"])
        plan = Plan(**saved["plan"])
        for o, s in zip(opts, saved["opts"], strict=True):
            o.load_state_dict(s)
        rng.seed(args.seed + plan.step)
    sampler = Sampler(tokenizer, prose, rng)
    began, budget = time.monotonic() - plan.seconds, args.minutes * 60
    tallies = {"loss": 0.0, "right": 0, "values": 0, "n": 0}
    while plan.seconds < budget:
        length = plan.length(rng)
        count = max(1, args.tokens // length)
        ids, marks = sampler.batch(count, length, plan.mix())
        q4 = plan.stage >= 3 and rng.random() < 0.8
        rate = args.rate * min(1.0, (plan.step + 1) / 100) * _decay(plan.seconds / budget)
        positions = skipping_positions(count, length - 1, Config().max_position_embeddings, rng)
        loss, right, values = _step(model, opts, ids, marks, positions, rate, q4)
        plan.step += 1
        plan.seconds = time.monotonic() - began
        tallies = {"loss": tallies["loss"] + loss, "n": tallies["n"] + 1,
                   "right": tallies["right"] + right,
                   "values": tallies["values"] + values}  # fmt: skip
        if tallies["n"] == 50:
            accuracy = tallies["right"] / max(1, tallies["values"])
            print(json.dumps({"step": plan.step, "s": round(plan.seconds), "length": LENGTHS[plan.stage],
                              "loss": round(tallies["loss"] / 50, 4), "recall": round(accuracy, 4),
                              "values": tallies["values"]}), flush=True)  # fmt: skip
            if accuracy > BAR and plan.stage < len(LENGTHS) - 1:
                plan.stage += 1
            tallies = {"loss": 0.0, "right": 0, "values": 0, "n": 0}
        if plan.step % 250 == 0:
            _save(state, model, plan, opts)
    _save(state, model, plan, opts)


def _decay(progress: float) -> float:
    """Full rate for three quarters of the time, then down to a twentieth."""
    return 1.0 if progress < 0.75 else max(0.05, 1 - (progress - 0.75) / 0.25 * 0.95)


def _step(
    model: Llama,
    opts: list,
    ids: np.ndarray,
    marks: np.ndarray,
    positions: np.ndarray,
    rate: float,
    q4: bool,
) -> tuple[float, int, int]:
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
    for o in opts:
        for g in o.param_groups:
            g["lr"] = rate
        o.step()
        o.zero_grad(set_to_none=True)
    right, values = value_accuracy(logits.argmax(-1).numpy(), wanted.numpy(), flat[where].numpy())
    return float(loss.detach()), right, values


def _save(path: Path, model: Llama, plan: Plan, opts: list) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "plan": asdict(plan), "opts": [o.state_dict() for o in opts]}, temporary)
    temporary.replace(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/embedded"))
    parser.add_argument("--minutes", type=float, default=150)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--init", type=Path, help="go on from these exported weights, at the last stage")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
