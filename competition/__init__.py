"""From labels to a running competition on CodaBench: build, check and simulate its bundle. See README.md."""
