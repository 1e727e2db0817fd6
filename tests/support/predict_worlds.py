"""A program that predicts in two processes: ``predict_worlds.py RUN INPUT OUTPUT``."""

import sys

from accelerate import debug_launcher

from mmbert.errors import MMBertError
from mmbert.inference.predict import predict


def run(folder: str, rows: str, output: str) -> None:
    try:
        predict(folder, input=rows, output=output)
    except MMBertError as error:  # the launcher prints tracebacks only
        print(error, flush=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    debug_launcher(run, tuple(sys.argv[1:]), num_processes=2)
