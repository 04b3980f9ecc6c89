"""Train Self-MM: `accelerate launch train.py --config hub_configs/mosi.yaml --data FILE [--option value ...]`."""

from selfmm_hf.cli import train

if __name__ == "__main__":
    train()
