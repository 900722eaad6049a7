"""One cell in one process: the label firewall, the stages, what is answered."""
