"""What a project may use of the image: its log. Nothing in the image needs it."""
