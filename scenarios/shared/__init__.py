"""What several families of scenarios share: splits, class lists, label noise, and smaller copies of any
scenario.
"""
