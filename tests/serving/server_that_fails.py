"""The server with a model that cannot read one of its tokens: `python server_that_fails.py TOKEN --model-path ...`"""

import os
import sys

import torch
from transformers import LlamaForCausalLM

from tuneline.serving.server import end_process, main

DEADLY = int(sys.argv[1])
whole = LlamaForCausalLM.forward


def forward(self: LlamaForCausalLM, input_ids: torch.Tensor, **arguments: object) -> object:
    if (input_ids == DEADLY).any():
        raise RuntimeError("this token cannot be read")
    return whole(self, input_ids=input_ids, **arguments)


LlamaForCausalLM.forward = forward  # type: ignore[method-assign]

if __name__ == "__main__":
    end_process(main(sys.argv[2:], os.environ))
