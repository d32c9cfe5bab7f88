"""What pages look at: the runs, each with a thread that follows its log, and the page model."""
