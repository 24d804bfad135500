"""The kit's commands, called in this process: fast, and with stdout and stderr kept apart."""

import shlex
from pathlib import Path

from click.testing import CliRunner

from blemore.cli import main as blemore_score
from blemore.rank_cli import main as blemore_rank
from blemore_baselines.cli import main as blemore_baselines
from blemore_codabench.cli import main as blemore_codabench

PROGRAMS = {
    "blemore-score": blemore_score,
    "blemore-rank": blemore_rank,
    "blemore-baselines": blemore_baselines,
    "blemore-codabench": blemore_codabench,
}


def call(*arguments):
    """One of the kit's commands in this process, as the shell would run it. Anything but an exit code is a failure."""
    program, *rest = map(str, arguments)
    result = CliRunner().invoke(PROGRAMS[program], rest, prog_name=program)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def shell(line):
    """The same for a line with quotes and a redirection."""
    words = shlex.split(line, comments=True)
    target = words[words.index(">") + 1] if ">" in words else None
    result = call(*(words[: words.index(">")] if target else words))
    if target:
        Path(target).write_text(result.stdout)
    return result
