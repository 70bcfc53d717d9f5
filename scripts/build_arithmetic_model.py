"""Build the embedded base model anew: python scripts/build_arithmetic_model.py --out DIR."""

import argparse
from pathlib import Path

from embedded_model.pretrain import PretrainConfig, pretrain


def main() -> None:
    default = PretrainConfig()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--steps", type=int, default=default.num_steps)
    args = parser.parse_args()
    pretrain(PretrainConfig(seed=args.seed, num_steps=args.steps), args.out)


if __name__ == "__main__":
    main()
