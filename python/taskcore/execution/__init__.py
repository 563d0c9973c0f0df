"""The execution of one call: its steps, its failures, its callbacks, and the outcome that the core
is told."""
