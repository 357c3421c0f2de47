"""Writes a trained model in Hugging Face layout: `python -m training.export --from build/embedded --to FOLDER`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from training import tokenizer as tok
from training.llama import Config


def export(source: Path, target: Path) -> None:
    """source: the folder that training wrote. Weights become fp16, about 2 bytes a parameter."""
    config = Config()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tok.save(tokenizer, target, config.max_position_embeddings)
    state = torch.load(source / "state.pt", weights_only=False)["model"]
    weights = {name: tensor.half().contiguous() for name, tensor in state.items()}
    save_file(weights, str(target / "model.safetensors"), metadata={"format": "pt"})
    ids = {name: tokenizer.token_to_id(name) for name in (tok.BOS, tok.END)}
    (target / "config.json").write_text(json.dumps(config.to_hf(ids[tok.BOS], ids[tok.END]), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, default=Path("build/embedded"))
    parser.add_argument("--to", dest="target", type=Path, default=Path("agentmem/model/embedded"))
    args = parser.parse_args()
    export(args.source, args.target)
    print(f"wrote {args.target}")


if __name__ == "__main__":
    main()
