"""Settings: the table of names, types and defaults, the checks of values, and the object that
holds them."""
