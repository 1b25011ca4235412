"""What a sweep decides, remembers and shows; without Ray, which only runs the trials."""
