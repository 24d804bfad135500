"""The scoring program of the BLEMORE challenge: labels, validation, metrics.

Needs only the standard library and jsonschema. The public names:

>>> from blemore import parse_filename, validate, acc_presence, acc_salience, score, evaluate
"""

from blemore.evaluate import evaluate
from blemore.labels import parse_filename
from blemore.metrics import acc_presence, acc_salience, score
from blemore.validate import validate
from blemore.version import VERSION

__version__ = VERSION
__all__ = ["acc_presence", "acc_salience", "evaluate", "parse_filename", "score", "validate"]
