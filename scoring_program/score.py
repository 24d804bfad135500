"""What CodaBench runs: `python3 score.py --input DIR --output DIR`. The work is done in blemore/codabench.py.

Older Pythons must be able to read this file, so that it can say what is wrong.
"""

import os
import sys

if sys.version_info < (3, 9):
    sys.stderr.write(
        "The scoring program needs Python 3.9 or later, and this is %d.%d. " % sys.version_info[:2]
        + "Organiser: set docker_image: codalab/codalab-legacy:py312 in competition.yaml.\n"
    )
    sys.exit(4)

sys.dont_write_bytecode = True  # the program's folder may be read-only
folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [folder, os.path.join(folder, "vendor")]

try:
    from blemore.codabench import main
except ImportError as error:
    sys.stderr.write(
        "The scoring program is incomplete (%s). Organiser: build it with blemore-codabench build.\n" % error
    )
    sys.exit(4)

if __name__ == "__main__":
    sys.exit(main())
