"""``python -m waitkit``: the command line, where no script directory is on the path."""

from waitkit.cli.main import main

if __name__ == "__main__":  # a process of multiprocessing imports this file once more, under another name
    raise SystemExit(main())
