"""verl's SFT trainer over the engines, adapters and files of a reinforcement learning run."""
