"""Train Self-MM: `accelerate launch train.py --config hub_configs/mosi.yaml --data FILE [--option value ...]`."""

import sys

from selfmm_cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
