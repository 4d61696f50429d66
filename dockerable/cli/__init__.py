"""Programs that ctl runs in a container of the image because shell is not enough: standard library only."""
