"""What attackers send, by threat: plain data, one thing a line, to be read and added to."""
