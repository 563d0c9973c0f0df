"""The worker as a process: how it boots, its zygote and children, and its log."""
