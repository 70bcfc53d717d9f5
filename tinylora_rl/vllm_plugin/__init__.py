"""What runs inside vLLM, or knows how vLLM wants to be asked: for training and evaluation alike."""
