"""Novel class discovery: the scenario and its generalised form, its class lists and presets, how it is scored."""
