"""The methods that every new one is measured against."""
