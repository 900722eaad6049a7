"""What is published: ranks, boards, and the folders that hold them."""
