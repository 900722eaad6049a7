"""Novel class discovery: Cr-KD, UNO, rank statistics, clustering."""
