"""What `ctl` runs in the image because a shell is not enough: standard library only."""
