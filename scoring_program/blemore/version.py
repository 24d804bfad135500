"""The kit's version, stated once: the package's metadata and every signature read it here."""

VERSION = "0.3.0"
