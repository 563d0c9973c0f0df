"""Results: of one task, of many, of a task that ran here, and the form in which exceptions are stored."""
