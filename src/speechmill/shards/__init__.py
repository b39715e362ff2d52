"""Shards: plain TARs by the WebDataset convention, and the index that makes them addressable."""
