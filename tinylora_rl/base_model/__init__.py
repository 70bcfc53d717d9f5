"""The base model of a command: its files, tokenizer, sizes and weights.

base = BaseModel("Qwen/Qwen2.5-7B-Instruct", revision="a09a354...")
base.folder, base.commit                # downloaded once, where they are not here yet
base.ask([{"role": "user", "content": "1 + 1?"}])   # token ids, chat template included
"""

from tinylora_rl.base_model.dims import ModelDims
from tinylora_rl.base_model.folder import checkpoint_folder, commit_of, local_folder
from tinylora_rl.base_model.model import BaseModel

__all__ = ["BaseModel", "ModelDims", "checkpoint_folder", "commit_of", "local_folder"]
