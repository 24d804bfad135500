"""From labels to a running competition on CodaBench: builds, checks and simulates its bundle. See README.md."""
