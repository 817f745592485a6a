"""What a run is: its types, model and train state; drawing its samples; its config.json."""
