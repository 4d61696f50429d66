"""The app of users."""
