"""The server as it would start on a machine with one GPU: `python server_with_gpu.py --model-path ...`"""

import os
import sys

import torch

from tuneline.serving.server import end_process, main

torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1

if __name__ == "__main__":
    end_process(main(sys.argv[1:], os.environ))
