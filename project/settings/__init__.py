"""Settings: base.py for all, schema.py for the keys, one folder for each environment."""
