"""Files of transcripts in the formats that people have."""
