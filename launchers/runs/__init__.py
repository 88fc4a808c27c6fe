"""What a run is: its folder, its row in the record, its claim on an output folder."""
