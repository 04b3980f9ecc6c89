"""Many runs instead of one: sweeps over configurations and seeds, their statistics, and the search for options."""
