"""Code that runs inside vLLM's workers, or prepares its requests: for training, evaluation and
serving alike.
"""
