"""The base model of a command: folder, commit, tokenizer, dimensions."""
