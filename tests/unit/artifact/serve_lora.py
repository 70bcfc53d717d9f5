"""Run by test_vllm.py in a process of its own: greedy tokens from vLLM, with a LoRA and without.

Arguments: the base model's folder, the LoRA's folder, a JSON file of prompts (lists of token ids),
a JSON file to write.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    base, lora, prompts_file, out = sys.argv[1:]
    prompts = [{"prompt_token_ids": ids} for ids in json.loads(Path(prompts_file).read_text())]
    started_s = time.monotonic()
    llm = LLM(
        model=base,
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        enable_chunked_prefill=False,
        gpu_memory_utilization=0.2,
        enable_lora=True,
        max_loras=1,
        max_lora_rank=8,  # of 1, 8, 16, ...; the adapter's own rank may be smaller
    )
    result = {"start_s": time.monotonic() - started_s}
    sampling = SamplingParams(temperature=0.0, max_tokens=48)
    for name, request in {"adapted": LoRARequest("tiny", 1, lora), "base": None}.items():
        outputs = llm.generate(prompts, sampling, lora_request=request, use_tqdm=False)
        result[name] = [list(output.outputs[0].token_ids) for output in outputs]
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
