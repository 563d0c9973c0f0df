"""What the tests start and stop: servers, workers, and the waiting for what they do."""
