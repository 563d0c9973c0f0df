"""Publishing: the options of a call, the check of its arguments, and the producer that hands it to
the core."""
