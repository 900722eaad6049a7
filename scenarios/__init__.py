"""What is learned from: scenarios, and the data sets they deal from."""
