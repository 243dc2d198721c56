"""Run a Python file in which every pause is short: `python hurry.py FILE`. The Google clients sleep for seconds, the documentation's loops for minutes."""

import runpy
import sys
import time

LONGEST_SECONDS = 0.2
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, LONGEST_SECONDS))
runpy.run_path(sys.argv[1], run_name="__main__")
