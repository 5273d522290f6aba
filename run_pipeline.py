"""The command line: `python run_pipeline.py --help`."""

from pipeline.cli import program

if __name__ == "__main__":
    program()
