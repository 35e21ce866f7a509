"""What the measuring programs share: recordings, engines, measured processes and scores."""
