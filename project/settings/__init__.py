"""Settings: base.py is shared, schema.py declares the keys that environments set, each environment has a folder."""
