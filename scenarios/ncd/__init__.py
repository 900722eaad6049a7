"""Novel class discovery: the scenario and its generalised form, its presets, how it is scored."""
